"""Prints the records of an Avro container file, one JSON object a line, as fastavro reads them."""
import base64
import datetime
import decimal
import json
import sys

import fastavro


def plain(value):
    if isinstance(value, tuple):  # a record of a union, with its name
        return {value[0]: plain(value[1])}
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [plain(v) for v in value]
    if isinstance(value, datetime.datetime):
        text = value.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")
        return text.rstrip("0").rstrip(".") + "Z"
    if isinstance(value, decimal.Decimal):
        return str(value)
    if isinstance(value, bytes):
        return "base64:" + base64.b64encode(value).decode()
    return value


with open(sys.argv[1], "rb") as f:
    for record in fastavro.reader(f, return_record_name=True):
        print(json.dumps(plain(record), sort_keys=True))
