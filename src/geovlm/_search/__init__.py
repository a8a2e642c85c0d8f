"""The parts of a search: what is asked, feedback, diversity, contrast. `geovlm.Index.search` puts them together."""
