"""The PyPI package `fluvio` against the node's endpoint: prints "done" when everything was as it should be.

client.py SC [DOMAIN KEY CERTIFICATE CA]: with the last four, over TLS with a client certificate.
"""

import faulthandler
import sys

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

faulthandler.dump_traceback_later(60, exit=True)

config = FluvioConfig.new(sys.argv[1])
if len(sys.argv) > 2:
    config.set_tls_file_paths(*sys.argv[2:])
else:
    config.disable_tls()
admin = FluvioAdmin.connect_with_config(config)
client = Fluvio.connect_with_config(config)

# Topics.
admin.create_topic("py")
admin.create_topic("py-parts", TopicSpec.create().with_partitions(3).build())
assert sorted(t.name() for t in admin.all_topics()) == ["py", "py-parts"], "topics are listed"
admin.delete_topic("py-parts")
assert [t.name() for t in admin.all_topics()] == ["py"], "a topic is gone"
try:
    admin.create_topic("py")
    raise SystemExit("a topic was made twice")
except Exception as error:
    assert "already exists" in str(error), error

# Keys and values, and every compression.
expected = []
kinds = [Compression.None_, Compression.Gzip, Compression.Snappy, Compression.Lz4, Compression.Zstd]
for number, kind in enumerate(kinds):
    producer = client.topic_producer_with_config(
        "py", TopicProducerConfigBuilder().compression(kind).build()
    )
    for i in range(100):
        key, value = f"key-{i % 5}", f"value-{number}-{i}"
        expected.append((key, value))
        producer.send(key.encode(), value.encode())
    producer.flush()


def take(offset, count):
    stream = client.partition_consumer("py", 0).stream(offset)
    records = [next(stream) for _ in range(count)]
    return [(r.offset(), r.key_string(), r.value_string()) for r in records]


whole = [(i, key, value) for i, (key, value) in enumerate(expected)]
assert take(Offset.beginning(), 500) == whole, "from the beginning"
assert take(Offset.absolute(123), 50) == whole[123:173], "from an offset"
assert take(Offset.from_end(10), 10) == whole[490:], "from the end"

# An answer carries the offset.
producer = client.topic_producer("py")
output = producer.send_string("last")
producer.flush()
assert output.wait().offset() == 500, "the offset of a produce"

# A named consumer goes on where it was.
def consumer():
    builder = ConsumerConfigExtBuilder("py")
    builder.offset_start(Offset.beginning())
    builder.offset_consumer("pyc")
    builder.offset_strategy(OffsetManagementStrategy.MANUAL)
    return client.consumer_with_config(builder.build())


stream = consumer()
for _ in range(7):
    record = next(stream)
stream.offset_commit()
stream.offset_flush()
assert [(c.consumer_id, c.offset) for c in client.consumer_offsets()] == [("pyc", 6)], "a kept offset"
assert next(consumer()).offset() == 7, "a resumed consumer"

print("done")
