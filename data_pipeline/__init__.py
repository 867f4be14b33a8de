"""Raw text to tokenizer, packed WebDataset shards and a loader with an exact global order."""
