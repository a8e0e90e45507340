#!/usr/bin/env bash
# Starts a Slurm cluster of this one machine, as root, unless one answers: for tests/test_slurm.py.
set -euo pipefail
if sinfo --noheader 2>/dev/null | grep -q idle; then exit 0; fi

host=$(hostname)
mkdir -p /etc/slurm /var/spool/slurmctld /var/spool/slurmd /run/munge /var/log/munge
cat >/etc/slurm/slurm.conf <<CONFIG
ClusterName=one
SlurmctldHost=$host
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
ReturnToService=2
StateSaveLocation=/var/spool/slurmctld
SlurmdSpoolDir=/var/spool/slurmd
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
NodeName=$host CPUs=$(nproc) State=UNKNOWN
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONFIG
echo 'CgroupPlugin=disabled' >/etc/slurm/cgroup.conf

test -f /etc/munge/munge.key || mungekey --create
chown -R munge: /etc/munge /run/munge /var/log/munge
su munge -s /bin/sh -c /usr/sbin/munged
slurmctld
slurmd
for _ in $(seq 30); do
  if sinfo --noheader | grep -q idle; then exit 0; fi
  sleep 1
done
sinfo
exit 1
