"""Reads a topic as any Confluent client would, and checks it.

usage: reader.py BROKERS REGISTRY TOPIC EXPECTED

Every event of the slice must be there: none missing, none twice, no inversion of a key. It prints one line of JSON and exits
with status 1 if that is not so. It uses confluent-kafka's own Avro deserializer and knows nothing of the program that wrote.
"""
import json
import sys
import time

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

ORDER = {"flights.FlightScheduled": 0, "flights.FlightDeparted": 1, "flights.FlightCancelled": 1, "flights.FlightArrived": 2}


def main():
    brokers, registry, topic, expected = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
    consumer = Consumer({
        "bootstrap.servers": brokers, "group.id": "independent-reader-%d" % time.time_ns(), "isolation.level": "read_committed",
        "auto.offset.reset": "earliest", "enable.auto.commit": False, "enable.partition.eof": True,
    })
    decode = AvroDeserializer(SchemaRegistryClient({"url": registry}))
    partitions = list(consumer.list_topics(topic, timeout=20).topics[topic].partitions)
    consumer.assign([TopicPartition(topic, p, 0) for p in partitions])

    ids, seqs, last_seq, last_step, steps = set(), set(), {}, {}, 0
    doubled = inverted = undecoded = wrong_step = 0
    ended = set()
    while len(ended) < len(partitions):
        m = consumer.poll(30)
        if m is None:
            break
        if m.error():
            ended.add(m.partition())  # end of the partition
            continue
        headers = {k: v.decode() for k, v in m.headers() or []}
        key, seq = m.key().decode(), int(headers["millrace-seq"])
        value = decode(m.value(), SerializationContext(topic, MessageField.VALUE))
        if not isinstance(value, dict):
            undecoded += 1
        doubled += headers["ce_id"] in ids or seq in seqs
        ids.add(headers["ce_id"])
        seqs.add(seq)
        inverted += seq <= last_seq.get(key, 0)
        last_seq[key] = seq
        step = ORDER[headers["ce_type"]]
        wrong_step += step != last_step.get(key, -1) + 1
        last_step[key] = step
        steps += 1
    consumer.close()
    result = {"events": steps, "expected": expected, "keys": len(last_seq), "doubled": doubled, "inverted": inverted,
              "undecoded": undecoded, "out_of_step": wrong_step, "partitions": len(partitions)}
    print(json.dumps(result))
    bad = doubled or inverted or undecoded or wrong_step or steps != expected or len(ended) < len(partitions)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
