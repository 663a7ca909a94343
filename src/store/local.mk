# store: sources and unit tests
