# raft: sources and unit tests
