"""How the benchmarks are run together: what there is, the record, the summary and the plots."""
