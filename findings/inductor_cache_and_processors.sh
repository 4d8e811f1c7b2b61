#!/usr/bin/env bash
# torch 2.13.0 (build for CPUs) on Python 3.11, x86-64 with AVX-512, GCC 12.
# Guess: what `torch.compile` keeps in its cache is found again only where it fits: for the instructions it was made for,
#        or else it is recompiled or refused with an error.
# Seen:  the C++ text that was generated for vectors of 16 is taken for vectors of 8, and the other way round. The sum of
#        15 ones is then 8, or 23; the sum of 64 is 32, or 128. No error, no warning. Each is right with an empty cache, and with
#        another `torch.compiler.config.cache_key_tag` for each. So one cache in a home folder that several sorts of nodes
#        share, or on this machine one run with ATEN_CPU_CAPABILITY=avx2, is enough. (A machine without AVX-512 was not
#        at hand: the variable stands for it.)
# Here:  `caft.train.compiled` sets the tag to the capability, and a test has both on one cache.
set -euo pipefail
grep -q avx512f /proc/cpuinfo || { echo "needs a processor with AVX-512" >&2; exit 1; }
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --extra-index-url https://download.pytorch.org/whl/cpu torch==2.13.0+cpu numpy==2.4.6
cat > "$work/sums.py" <<'P'
import sys

import torch
import torch.compiler.config

tag = sys.argv[1]
if tag != "-":
    torch.compiler.config.cache_key_tag = tag
total = torch.compile(lambda numbers: numbers.exp().sum(), dynamic=False)
print(int(total(torch.zeros(15))), int(total(torch.zeros(64))))
P
sums() { # CAPABILITY CACHE TAG
    ATEN_CPU_CAPABILITY=$1 TORCHINDUCTOR_CACHE_DIR=$work/$2 "$work/env/bin/python" "$work/sums.py" "$3"
}
same() { [[ $2 == "$3" ]] || { echo "$1: found $2, expected $3" >&2; exit 1; }; echo "$1: sums of 15 and 64 ones: $2"; }
same "avx512, empty cache" "$(sums avx512 a -)" "15 64"
same "avx2, the same cache" "$(sums avx2 a -)" "8 32"
same "avx2, empty cache" "$(sums avx2 b -)" "15 64"
same "avx512, the same cache" "$(sums avx512 b -)" "23 128"
same "avx512, cache with a tag" "$(sums avx512 c avx512)" "15 64"
same "avx2, the same cache, another tag" "$(sums avx2 c avx2)" "15 64"
