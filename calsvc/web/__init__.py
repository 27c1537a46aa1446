"""The live page: one sampler, one encoded snapshot a second, any number of readers."""
