"""Calibrated early exits (A1, sections 3.3 and 4): leave the backbone when two successive readings agree.

mass         which share of queries should leave at which exit
discrepancy  how far two successive action chunks are apart
quantile     thresholds that give those shares on recorded discrepancies
controller   the pure stop-or-go step of the co-stepping loop
calibrate    episodes in, thresholds and a validation verdict out
budget       a mean depth, FLOP or millisecond budget instead of a mass; choosing the exit set
artifact     ``exits.json`` and ``discrepancies.npz``, refused by any policy that they were not made for
"""
