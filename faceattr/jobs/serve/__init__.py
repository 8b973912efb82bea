"""A model behind HTTP, on Ray Serve.

    client -> Ray Serve's HTTP proxy -> front: token, limits, queue, figures -> replicas: decode, batch, predict

One front, which knows all requests, so that its queue and its figures speak for the whole server; it holds no model and
decodes nothing. Any number of replicas, which see single images. An image whose replica is lost is sent to another.
"""
