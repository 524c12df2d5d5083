"""A run record told to the trackers that teams already look at: W&B, TensorBoard, Prometheus.

Each exporter reads the record's files, so training neither imports a tracker nor waits for one.
"""
