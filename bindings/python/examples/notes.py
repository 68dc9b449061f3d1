"""Keeps a note in a server that describes itself, by what it says: notes.py ENDPOINT TEXT

The server is the Rust example: cargo run --features describe --example describe -- serve unix:/tmp/notes.sock
"""

import json
import sys

import sidewire

with sidewire.Client(sys.argv[1]) as client:
    document = client.describe()
    types = {message["name"]: message["type"] for message in document["messages"]}
    topics = {event["name"]: event["type"] for event in document["events"]}
    print(document["app"]["name"], "has", ", ".join(types), "and tells", ", ".join(topics))
    with client.subscribe(topics["Added"]) as news:
        try:
            number = json.loads(client.call(types["Add"], json.dumps({"text": sys.argv[2]})))
            print("added", json.loads(next(news).payload)["note"]["text"])
        except sidewire.ResultError as error:
            sys.exit(f"refused: {json.loads(error.payload)}")  # an AddError
    found = json.loads(client.call(types["Find"], json.dumps({"text": sys.argv[2]})))
    print("found", len([note for note in found if note["number"] == number]))
