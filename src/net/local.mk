# net: sources and unit tests
