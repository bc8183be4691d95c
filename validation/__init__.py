"""What good data is: Great Expectations behind a blocking gate, with results that can be read and kept."""
