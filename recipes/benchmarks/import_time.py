"""How long `import keras_mtl` takes over `import keras`, with bytecode at hand as an installed package has it.

Each turn is a process of its own, since nothing is imported twice. Other work on the machine makes single turns slow,
so the fastest one counts. It should be at most 0.2 s.

    python recipes/benchmarks/import_time.py [--turns 4]
"""

import argparse
import subprocess
import sys
import tempfile

PROGRAM = """
import sys, time
import keras
sys.dont_write_bytecode, sys.pycache_prefix = False, sys.argv[1]
start = time.perf_counter()
import keras_mtl
print(time.perf_counter() - start)
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=4)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as bytecode:
        run = [sys.executable, "-c", PROGRAM, bytecode]
        turns = range(1 + args.turns)  # the first one compiles
        seconds = [float(subprocess.run(run, capture_output=True, text=True, check=True).stdout) for _ in turns]
    print(f"{min(seconds[1:]):.3f} s, the fastest of {args.turns}: {' '.join(f'{s:.3f}' for s in seconds[1:])}")


if __name__ == "__main__":
    main()
