# http: sources and unit tests
