"""Talks to a registry with Confluent's own Python client: client.py URL FRAMED_VALUE_IN_HEX"""

import sys

from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.serialization import MessageField, SerializationContext

V1 = '{"type":"record","name":"T","fields":[{"name":"a","type":"string"}]}'
V2 = '{"type":"record","name":"T","fields":[{"name":"a","type":"string"},{"name":"b","type":"long","default":0}]}'
BREAKING = '{"type":"record","name":"T","fields":[{"name":"a","type":"string"},{"name":"c","type":"long"}]}'


def main(url, framed):
    client = SchemaRegistryClient({"url": url})
    first = client.register_schema("py-value", Schema(V1, "AVRO"))
    assert client.register_schema("py-value", Schema(V1, "AVRO")) == first
    assert client.get_schema(first).schema_str == V1
    assert client.test_compatibility("py-value", Schema(V2, "AVRO"))
    assert not client.test_compatibility("py-value", Schema(BREAKING, "AVRO"))
    try:
        client.register_schema("py-value", Schema(BREAKING, "AVRO"))
        raise AssertionError("a breaking schema was taken")
    except SchemaRegistryError as e:
        assert e.http_status_code == 409, e
    second = client.register_schema("py-value", Schema(V2, "AVRO"))
    latest = client.get_latest_version("py-value")
    assert (latest.version, latest.schema_id) == (2, second), latest
    assert client.lookup_schema("py-value", Schema(V1, "AVRO")).version == 1
    assert client.get_versions("py-value") == [1, 2]
    assert "py-value" in client.get_subjects()
    client.set_compatibility("py-value", "FULL")
    try:
        client.get_schema(999999)
        raise AssertionError("an unknown id was found")
    except SchemaRegistryError as e:
        assert e.error_code == 40403, e

    context = SerializationContext("go", MessageField.VALUE)
    value = AvroDeserializer(client)(framed, context)
    again = AvroSerializer(client, conf={"auto.register.schemas": False, "use.latest.version": True})(value, context)
    print(again.hex())
    print(sorted(value.items()))


main(sys.argv[1], bytes.fromhex(sys.argv[2]))
