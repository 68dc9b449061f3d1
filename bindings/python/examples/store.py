"""Talks to the store that `sidewire serve unix:/tmp/store.sock` hosts: python3 store.py unix:/tmp/store.sock"""

import sys

import sidewire

GET, SET, COUNT, CHANGED = 1, 2, 7, 1  # CHANGED is a topic

with sidewire.Client(sys.argv[1]) as client:
    print("the value is", client.call(GET).decode())
    with client.subscribe(CHANGED) as changes:
        client.call(SET, "tea", timeout=5)
        change = changes.next(timeout=5)
        print("changed to", change.payload.decode() if change else "nothing in 5 s")
    for part in client.stream(COUNT, "3"):
        print("part", part.decode())
    try:
        client.call(99)
    except sidewire.ResultError as error:
        print("refused with", error.rc)
