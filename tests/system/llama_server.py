"""llama.cpp's own HTTP server as a program: `llama_server.py PORT MODEL NAME`. It knows nothing of strongroom."""

import sys
import time

import xllamacpp

port, model, name = int(sys.argv[1]), sys.argv[2], sys.argv[3]
told = xllamacpp.CommonParams()
told.model.path = model
told.model_alias = set([name])  # noqa: C405  # braces are for what the worker fills in
told.n_ctx, told.n_parallel = 1024, 1
told.cpuparams.n_threads = told.cpuparams_batch.n_threads = 2
told.hostnames, told.port = ["127.0.0.1"], port
told.use_jinja, told.offline = False, True
server = xllamacpp.Server(told)
while True:
    time.sleep(3600)
