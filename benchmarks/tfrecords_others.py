"""What TensorFlow and the package `tfrecord` make of TFRecords; run by a Python that has them, by `tfrecords.py`.

PYTHON benchmarks/tfrecords_others.py write LEVELS.npz FOLDER     TensorFlow writes them as PGGAN does
PYTHON benchmarks/tfrecords_others.py read FOLDER LEVELS.npz      TensorFlow reads them
PYTHON benchmarks/tfrecords_others.py time FILE                   CPU seconds of the package `tfrecord`
PYTHON benchmarks/tfrecords_others.py crc                         MB/s of google-crc32c
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np


def write(levels: str, folder: str) -> dict[str, object]:
    import tensorflow as tf

    for resolution, images in np.load(levels).items():
        path = Path(folder) / f"faces-r{int(np.log2(int(resolution))):02d}.tfrecords"
        options = tf.compat.v1.python_io.TFRecordOptions(tf.compat.v1.python_io.TFRecordCompressionType.NONE)
        with tf.compat.v1.python_io.TFRecordWriter(str(path), options) as writer:
            for chw in images:
                shape = tf.train.Feature(int64_list=tf.train.Int64List(value=chw.shape))
                data = tf.train.Feature(bytes_list=tf.train.BytesList(value=[chw.tobytes()]))
                example = tf.train.Example(features=tf.train.Features(feature={"shape": shape, "data": data}))
                writer.write(example.SerializeToString())
    return {"tensorflow": tf.__version__}


def read(folder: str, levels: str) -> dict[str, object]:
    import tensorflow as tf

    features = {"shape": tf.io.FixedLenFeature([3], tf.int64), "data": tf.io.FixedLenFeature([], tf.string)}
    found = {}
    for path in sorted(Path(folder).glob("*.tfrecords")):
        images = []
        for payload in tf.data.TFRecordDataset(str(path)):
            record = tf.io.parse_single_example(payload, features)
            images.append(tf.reshape(tf.io.decode_raw(record["data"], tf.uint8), record["shape"]).numpy())
        found[str(2 ** int(path.stem[-2:]))] = np.stack(images)
    np.savez(levels, **found)
    return {"tensorflow": tf.__version__}


def time_package(path: str) -> dict[str, object]:
    from importlib.metadata import version

    from tfrecord.reader import tfrecord_loader

    start, count = time.process_time(), 0
    for record in tfrecord_loader(path, None, {"shape": "int", "data": "byte"}):
        np.frombuffer(record["data"], dtype=np.uint8).reshape(record["shape"]).transpose(1, 2, 0).copy()
        count += 1
    return {"seconds": time.process_time() - start, "records": count, "version": version("tfrecord")}


def time_crc() -> dict[str, object]:
    from importlib.metadata import version

    import google_crc32c

    rows = [row.tobytes() for row in np.random.default_rng(0).integers(0, 256, (600, 12_400), dtype=np.uint8)]
    best = float("inf")
    for _ in range(7):
        start = time.process_time()
        for row in rows:
            google_crc32c.value(row)
        best = min(best, time.process_time() - start)
    return {"mb_per_s": round(600 * 12_400 / best / 1e6), "version": version("google-crc32c")}


if __name__ == "__main__":
    verbs = {"write": write, "read": read, "time": time_package, "crc": time_crc}
    print(json.dumps(verbs[sys.argv[1]](*sys.argv[2:])))
