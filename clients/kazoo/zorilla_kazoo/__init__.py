"""Scenarios of real clients: kazoo for what applications do, raw sockets for what no client library would send."""
