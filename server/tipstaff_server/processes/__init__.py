"""Work in other processes, over `concurrent.futures.Executor` of the standard library.

    executor      gives the executor: processes on this machine, one per core; a bounded map in order
    spans         all subjects, a span of their ids at a time
    per_audience  the same work for several audiences
    read_ahead    an import's file, read ahead of the work on it

Work is functions of modules, and their arguments and results can be pickled, so that any executor
can do it. `collector` and `private_folder` are for processes that do one long work.
"""
