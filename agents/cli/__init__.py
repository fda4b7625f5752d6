"""The commands of ``tyche`` that concern policies: they parse, call and print."""
