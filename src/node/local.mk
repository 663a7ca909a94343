# node: sources and unit tests
