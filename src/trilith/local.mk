# trilith: sources and unit tests
