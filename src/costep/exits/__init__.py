"""Calibrated early exits (A1, sections 3.3 and 4): stop when two successive readings agree.

mass         which share of queries should leave at which exit
discrepancy  how far two successive action chunks are apart
quantile     thresholds that give those shares on recorded discrepancies
controller   the pure stop-or-go step of the co-stepping loop
calibrate    episodes in, thresholds and a verdict on held-out episodes out
budget       a mean depth, FLOP or millisecond budget instead of a mass; choosing the exit set
identity     what thresholds hold for
artifact     ``exits.json`` and ``discrepancies.npz``, refused by any policy they were not made for
"""
