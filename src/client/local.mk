# client: sources and unit tests
