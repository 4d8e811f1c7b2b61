#!/usr/bin/env bash
# torchdata 0.11.0, torch 2.13.0 (build for CPUs) on Python 3.11.
# Guess: `StatefulDataLoader`, "a drop-in replacement", gives `DataLoader`'s order for one seed; and a training that goes on from its
#        `state_dict` in the middle of an epoch gets the batches it would have got, random crops included.
# Seen:  the order is another, with a generator of one's own as well. After a resume the rows are right, and the random numbers that
#        `__getitem__` draws are not: they begin anew with those of the epoch's first batches, so later pictures get the crops that the
#        first had. So it is with two workers, and without any where the seed is set at the start, as for a resume it is.
# Here:  each crop is drawn from seed, epoch and row (caft/data/training/batch.py; tests/faults/test_resume.py).
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --extra-index-url https://download.pytorch.org/whl/cpu torch==2.13.0+cpu numpy==2.4.6 torchdata==0.11.0
cat > "$work/resumed.py" <<'P'
import torch
from torch.utils.data import DataLoader, Dataset
from torchdata.stateful_dataloader import StatefulDataLoader


class Pictures(Dataset):
    """A row's number, and where its crop begins."""

    def __len__(self):
        return 64

    def __getitem__(self, row):
        return row, torch.rand(())


def loader(workers):
    torch.manual_seed(0)  # as each start of a script does
    return StatefulDataLoader(Pictures(), batch_size=8, shuffle=True, num_workers=workers)


def batches(loaded):
    return [(rows.tolist(), crops.tolist()) for rows, crops in loaded]


if __name__ == "__main__":
    orders = []
    for kind in (DataLoader, StatefulDataLoader):
        made = kind(Pictures(), batch_size=8, shuffle=True, generator=torch.Generator().manual_seed(0))
        orders.append([rows for rows, _ in batches(made)])
    print("the same order as DataLoader:", orders[0] == orders[1])
    assert orders[0] != orders[1] and sorted(sum(orders[0], [])) == sorted(sum(orders[1], []))
    for workers in (0, 2):
        whole = batches(loader(workers))
        assert batches(loader(workers)) == whole  # without a stop each run is as the other
        begun = loader(workers)
        left = iter(begun)
        for _ in range(4):
            next(left)
        state = begun.state_dict()
        resumed = loader(workers)
        resumed.load_state_dict(state)
        after = batches(resumed)
        rows = [rows for rows, _ in after] == [rows for rows, _ in whole[4:]]
        crops = [crops for _, crops in after] == [crops for _, crops in whole[4:]]
        again = [crops for _, crops in after] == [crops for _, crops in whole[:4]]
        print(f"{workers} workers, resumed after 4 of 8 batches: rows right: {rows}, crops right: {crops}, first crops again: {again}")
        assert rows and not crops and again
P
"$work/env/bin/python" "$work/resumed.py"
