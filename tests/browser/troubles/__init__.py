"""Ten things that go wrong at fifty sites, found and mended in the pages."""
