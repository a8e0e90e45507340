#!/bin/bash
# One job of an array: its number picks what it does.
{setup}
names=({names})
exec {command} "${names[$SLURM_ARRAY_TASK_ID]}"
