# kv: sources and unit tests
