"""Starting and asking the programs that the results are held against."""
