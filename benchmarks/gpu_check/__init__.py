"""What a GPU makes of the project, in one command: `make gpu-check`, or `python3 -m benchmarks.gpu_check`.

Each part runs in a process of its own with a cap in seconds and appends an answer to OUT/part-N.jsonl as soon as it has
it; a run that is killed keeps what it had.

| part | module       | what it answers                                                                     |
|------|--------------|-------------------------------------------------------------------------------------|
| 1    | device_tests | the tests that are parametrised by device, on the GPU                               |
| 2    | layers       | sparse layers: times of each engine, agreement with plain float32                   |
| 3    | step         | the training step in each precision: ms, memory, kernels, host synchronisations     |
| 4    | commands     | the training command on a city at nuScenes' sizes, E-step and evaluation            |
| 5    | resume       | training killed and resumed with float16's scaler; NCCL with one process            |
"""
