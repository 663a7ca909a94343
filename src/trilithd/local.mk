# trilithd: sources and unit tests
