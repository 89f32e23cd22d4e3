"""The PyPI package `fluvio` against the node's endpoint, an operation at a time; prints "done" when all was as it should be.

interop.py SC [--tls DOMAIN KEY CERTIFICATE CA] OPERATION WORDS...

What is compared outside is written to files of a directory: TOPIC.sent and TOPIC.seen, one line a record, its offset, its key
and its value, the last two in hex.
"""

import asyncio
import faulthandler
import os
import random
import sys
import time

from fluvio import (
    Compression,
    ConsumerConfigExtBuilder,
    Fluvio,
    FluvioAdmin,
    FluvioConfig,
    Offset,
    OffsetManagementStrategy,
    TopicProducerConfigBuilder,
    TopicSpec,
)

KINDS = {
    "none": Compression.None_,
    "gzip": Compression.Gzip,
    "snappy": Compression.Snappy,
    "lz4": Compression.Lz4,
    "zstd": Compression.Zstd,
}
TOPIC = "numbers"


def producer(topic, kind="none", **settings):
    builder = TopicProducerConfigBuilder().compression(KINDS[kind])
    for name, value in settings.items():
        builder = getattr(builder, name)(value)
    return client.topic_producer_with_config(topic, builder.build())


def make(topic, partitions=1):
    """A topic, once the other connection has been told of it too: clients look topics up in what they were told."""
    admin.create_topic(topic, TopicSpec.create().with_partitions(partitions).build())
    while True:
        try:
            return client.topic_producer(topic)
        except Exception as error:
            assert "Topic not found" in str(error), error
            time.sleep(0.01)


def older(topic, offset):
    """The consumer that the package had first."""
    return client.partition_consumer(topic, 0).stream(offset)


def newer(topic, offset, consumer=None, once=False):
    """The one that it recommends."""
    builder = ConsumerConfigExtBuilder(topic)
    builder.offset_start(offset)
    builder.partition(0)
    builder.disable_continuous(once)
    if consumer:
        builder.offset_consumer(consumer)
        builder.offset_strategy(OffsetManagementStrategy.MANUAL)
    return client.consumer_with_config(builder.build())


def take(stream, count):
    records = [next(stream) for _ in range(count)]
    return [(r.offset(), bytes(r.key() or b""), bytes(r.value())) for r in records]


def wait(outputs, first=0):
    for offset, output in enumerate(outputs, first):
        seen = output.wait().offset()
        assert seen == offset, f"the answer to {offset} says {seen}"


def write(directory, name, records):
    with open(os.path.join(directory, name), "w", encoding="ascii") as file:
        for offset, key, value in records:
            file.write(f"{offset} {key.hex()} {value.hex()}\n")


def pairs(count):
    """Keys and values of every kind, each with each."""
    every, noise = bytes(range(256)), random.Random(1)
    for i in range(count):
        key = (every, b"", f"key-{i % 7}".encode())[i % 3]
        values = (every, b"", b"value-%d-" % i * 20, noise.randbytes(i % 3000), b"x")
        yield key, noise.randbytes(40_000) if i == 500 else values[i % 5]


def exact(directory, topic, sent):
    """Writes what was sent and what either consumer sees of it."""
    write(directory, f"{topic}.sent", [(i, *pair) for i, pair in enumerate(sent)])
    seen = take(older(topic, Offset.beginning()), len(sent))
    assert take(newer(topic, Offset.beginning()), len(sent)) == seen, "both consumers see the same"
    write(directory, f"{topic}.seen", seen)


def number(i):
    return (i, b"", b"%d" % i)


def send_numbers(first, count, topic=TOPIC):
    to = producer(topic)
    outputs = [to.send(b"", b"%d" % i) for i in range(first, first + count)]
    to.flush()
    wait(outputs, first)


# ---- the operations ----


def topics():
    def names():
        return sorted(t.name() for t in admin.all_topics())

    admin.create_topic("py")
    admin.create_topic("py-parts", TopicSpec.create().with_partitions(3).build())
    assert names() == ["py", "py-parts"], names()
    # As in a real SC, what contains the text.
    assert [t.name() for t in admin.list_topics(["parts"])] == ["py-parts"]
    admin.delete_topic("py-parts")
    assert names() == ["py"], names()
    for refused, words in (
        (lambda: admin.create_topic("py"), "already exists"),
        (lambda: admin.create_topic("many", TopicSpec.create().with_partitions(17).build()), "1 to 16 partitions"),
        (lambda: admin.delete_topic("py-parts"), "not found"),
    ):
        try:
            refused()
        except Exception as error:
            assert words in str(error), error
        else:
            raise SystemExit(f"not refused: {words}")
    admin.delete_topic("py")
    make("py")
    send_numbers(0, 1, "py")


def compressions(directory):
    for kind in KINDS:
        for count in (1, 1000):
            topic = f"{kind}-{count}"
            make(topic)
            to, sent = producer(topic, kind), list(pairs(count))
            outputs = [to.send(key, value) for key, value in sent]
            to.flush()
            wait(outputs)
            exact(directory, topic, sent)


def batches(directory):
    for size in (100, 16_384, 1_000_000):
        topic = f"batches-{size}"
        make(topic)
        to, sent = producer(topic, batch_size=size, linger=20), list(pairs(1000))
        outputs = to.send_all(sent)
        to.flush()
        wait(outputs)
        exact(directory, topic, sent)


def large(directory):
    make("large")
    noise = random.Random(2)
    for size in (300_000, 900_000):
        try:
            to = producer("large")
            output = to.send(b"", noise.randbytes(size))
            to.flush()
            output.wait()
        except Exception as error:
            assert "too large" in str(error), error
        else:
            raise SystemExit("a record that is too large was taken")
    # Others are served as before.
    to, sent = producer("large", "zstd"), [(noise.randbytes(300), noise.randbytes(n)) for n in (20_000, 60_000, 200_000, 1)]
    outputs = [to.send(key, value) for key, value in sent]
    to.flush()
    wait(outputs)
    exact(directory, "large", sent)


def partitions():
    make("parts", 3)
    to = producer("parts")
    outputs = [(i % 20, to.send(b"k%d" % (i % 20), b"%d" % i)) for i in range(600)]
    to.flush()
    of_key = {}
    for key, output in outputs:
        of_key.setdefault(key, set()).add(output.wait().partition_id())
    assert all(len(parts) == 1 for parts in of_key.values()), of_key
    assert len(set.union(*of_key.values())) == 3, of_key
    stream, seen = client.multi_partition_consumer("parts").stream(Offset.beginning()), {}
    for record in (next(stream) for _ in range(600)):
        seen.setdefault(record.key_string(), []).append(int(record.value_string()))
    assert seen == {f"k{k}": list(range(k, 600, 20)) for k in range(20)}, seen


def positions():
    make(TOPIC)
    send_numbers(0, 1000)
    whole = [number(i) for i in range(1020)]
    for offset, first in (
        (Offset.beginning(), 0),
        (Offset.from_beginning(10), 10),
        (Offset.absolute(0), 0),
        (Offset.absolute(500), 500),
        (Offset.absolute(999), 999),
        (Offset.from_end(1), 999),
        (Offset.from_end(10), 990),
        (Offset.from_end(5000), 0),
    ):
        for consumer in (older, newer):
            assert take(consumer(TOPIC, offset), 1000 - first) == whole[first:1000], (consumer, first)
        once = newer(TOPIC, offset, once=True)
        assert take(once, 1000 - first) == whole[first:1000], ("once", first)
        assert next(once, None) is None, "what takes what there is ends at the end"
    # At the end and beyond it: nothing that is there already.
    streams = [
        (first, consumer(TOPIC, offset))
        for offset, first in (
            (Offset.end(), 1000),
            (Offset.from_end(0), 1000),
            (Offset.absolute(1000), 1000),
            (Offset.absolute(1010), 1010),
            (Offset.from_beginning(1010), 1000),
        )
        for consumer in (older, newer)
    ]
    send_numbers(1000, 20)
    for first, stream in streams:
        assert take(stream, 1020 - first) == whole[first:], first


def make_and_fill(first, count):
    make(TOPIC)
    fill(first, count)


def fill(first, count):
    for begin in range(int(first), int(first) + int(count), 100):
        send_numbers(begin, 100)


def consume_numbers(first, end):
    first, end = int(first), int(end)
    for consumer in (older, newer):
        assert take(consumer(TOPIC, Offset.absolute(first)), end - first) == [number(i) for i in range(first, end)]


def take_turns(end):
    """Several streams on one connection, a record of each in turn."""
    streams = [[first, older(TOPIC, Offset.absolute(first))] for first in (0, 1000, 2000)]
    streams += [[first, newer(TOPIC, Offset.absolute(first))] for first in (0, 3000)]
    while streams:
        for turn in streams:
            assert take(turn[1], 1) == [number(turn[0])], turn
            turn[0] += 1
        streams = [turn for turn in streams if turn[0] < int(end)]


def live():
    """Prints how long after the producer's answer, which says that a record is durable, a consumer at the end has it."""
    make("live")
    to, late = client.topic_producer("live"), []

    async def run():
        stream = await client.partition_consumer("live", 0).async_stream(Offset.end())

        async def arrival():
            return await stream.__anext__(), time.monotonic()

        for i in range(200):
            arriving = asyncio.ensure_future(arrival())
            await asyncio.sleep(0.002)
            output = await to.async_send(b"", b"%d" % i)
            await to.async_flush()
            answer = await output.async_wait()
            durable = time.monotonic()
            assert answer.offset() == i
            record, seen = await arriving
            assert (record.offset(), record.value_string()) == (i, str(i))
            late.append(max(0, seen - durable) * 1000)

    asyncio.run(run())
    late.sort()
    print(f"{late[100]:.3f} ms after it was durable in the middle, {late[-1]:.3f} ms at most")
    # The middle: the machine of a test may be busy with others.
    assert late[100] <= 20, late


def kept():
    return sorted((c.consumer_id, c.topic, c.partition, c.offset) for c in client.consumer_offsets())


def commit(first, count):
    """The named consumer is at `first`; it takes `count`."""
    first, count = int(first), int(count)
    before = [("c1", TOPIC, 0, first - 1), ("c2", TOPIC, 0, 0)] if first else []
    assert kept() in (before, [("c2", TOPIC, 0, 0)]), kept()
    stream = newer(TOPIC, Offset.beginning(), "c1")
    assert take(stream, count) == [number(i) for i in range(first, first + count)]
    stream.offset_commit()
    stream.offset_flush()
    if not first:
        other = newer(TOPIC, Offset.absolute(0), "c2")
        assert take(other, 1) == [number(0)]
        other.offset_commit()
        other.offset_flush()
    assert kept() == [("c1", TOPIC, 0, first + count - 1), ("c2", TOPIC, 0, 0)], kept()
    # In another connection.
    again = Fluvio.connect_with_config(config).consumer_offsets()
    assert sorted((c.consumer_id, c.offset) for c in again) == [("c1", first + count - 1), ("c2", 0)]


def uncommit(offset):
    assert kept() == [("c1", TOPIC, 0, int(offset)), ("c2", TOPIC, 0, 0)], kept()
    client.delete_consumer_offset("c1", TOPIC, 0)
    assert kept() == [("c2", TOPIC, 0, 0)], kept()


def evicted():
    """In a ring that holds half of what is sent."""
    make("t")
    to, noise, count = producer("t"), random.Random(3), 9000
    sent = [b"%d" % i for i in range(100)]
    for value in sent:
        to.send(b"", value)
    to.flush()
    streams = {"older": older("t", Offset.beginning()), "newer": newer("t", Offset.beginning()), "named": newer("t", Offset.beginning(), "c")}
    for stream in streams.values():
        assert take(stream, 1) == [(0, b"", b"0")]
    streams["named"].offset_commit()
    streams["named"].offset_flush()
    for _ in range(100, count):
        sent.append(noise.randbytes(1000))
        to.send(b"", sent[-1])
    to.flush()

    def rest(stream, at):
        """The places where it went on elsewhere; at its end the error's words, if any."""
        holes = []
        try:
            while at < count:
                (offset, _, value), = take(stream, 1)
                assert value == sent[offset]
                if offset != at:
                    holes.append((at, offset))
                at = offset + 1
        except Exception as error:
            return holes, at, str(error)
        return holes, at, None

    (earliest, _, _), = take(older("t", Offset.beginning()), 1)
    assert 1000 < earliest < count, earliest
    # One that is connected: the older consumer raises the error, the newer goes on at the earliest.
    holes, at, error = rest(streams["older"], 1)
    assert not holes and at < earliest and error == f"Offset {at} is evicted. The next available is {earliest}", (holes, at, error)
    for name in ("newer", "named"):
        holes, at, error = rest(streams[name], 1)
        assert error is None and len(holes) == 1 and holes[0][0] < earliest == holes[0][1], (name, holes, at, error)
    # One that asks for what is gone.
    holes, at, error = rest(older("t", Offset.absolute(5)), 5)
    assert (holes, at, error) == ([], 5, f"Offset 5 is evicted. The next available is {earliest}"), (holes, at, error)
    assert rest(newer("t", Offset.absolute(5)), 5) == ([(5, earliest)], count, None)
    # One that asks for the beginning, as many as there may be from the end, or goes on where it was.
    for consumer, *name in ((older,), (newer,), (newer, "c")):
        for offset in (Offset.beginning(), Offset.from_end(100_000)):
            assert rest(consumer("t", offset, *name), earliest) == ([], count, None)


def many(count):
    """Catches up on `count` records of about 300 bytes, a fifth sent with each compression."""
    count = int(count)
    each = count // len(KINDS)
    noise = os.environb[b"HEADWATER_INTEROP_NOISE"] * 2
    most = len(noise) // 2

    def pair(i):
        at = i * 37 % most
        return b"k%d" % (i % 100), b"%08d-" % i + noise[at : at + 291]

    make("many")
    for part, kind in enumerate(KINDS):
        to, begin = producer("many", kind), time.monotonic()
        for i in range(part * each, (part + 1) * each):
            to.send(*pair(i))
        to.flush()
        print(f"{each} sent with {kind} in {time.monotonic() - begin:.1f} s")
    begin = time.monotonic()
    stream = newer("many", Offset.beginning())
    for i in range(count):
        record = next(stream)
        assert (record.offset(), record.key(), record.value()) == (i, *pair(i)), (record.offset(), i)
    print(f"{count} consumed in {time.monotonic() - begin:.1f} s")


words = sys.argv[1:]
config = FluvioConfig.new(words.pop(0))
if words[0] == "--tls":
    config.set_tls_file_paths(*words[1:5])
    words = words[5:]
else:
    config.disable_tls()
faulthandler.dump_traceback_later(1200 if words[0] == "many" else 60, exit=True)
admin = FluvioAdmin.connect_with_config(config)
client = Fluvio.connect_with_config(config)
globals()[words[0].replace("-", "_")](*words[1:])
print("done", flush=True)
# The package's threads may crash in an interpreter that is being taken down.
os._exit(0)
