# wire: sources and unit tests
