#!/usr/bin/env python3
"""What recording costs a Postgres transaction, and a MiB of a result: pgbench and psql straight to the
demo's server, and through gateways whose record is at level `process`, at level `disk`, and in full
capture. Each is measured in turns, so that all share what the machine is doing. Measures, asserts nothing.

    cargo build --release && benches/recording.py target/release/weir [SECONDS]
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

WEIR = os.path.abspath(sys.argv[1])
SECONDS = sys.argv[2] if len(sys.argv) > 2 else "10"
ROUNDS = 3
CLIENTS = "8"
RESULT_MIB = 256


def cpu_seconds(pid):
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def gateway(demo, name, audit, root):
    """A `weir serve` with the demo's configuration and another `[audit]`."""
    folder = os.path.join(root, name)
    os.mkdir(folder)
    state = demo["state_dir"]
    for entry in os.listdir(state):
        path = os.path.join(state, entry)
        if os.path.isfile(path) and re.search(r"\.(crt|pem|password)$|web-1\.key|gateway\.key|ca\.key", entry):
            shutil.copy(path, folder)
    shutil.copytree(demo["policy_dir"], os.path.join(folder, "policies"))
    lines, listener, number = [], False, 0
    for line in open(demo["config_file"]).read().splitlines():
        if line.startswith("["):
            listener = line == "[[listeners]]"
        if listener and line.startswith("address = "):
            number += 1
            line = f'address = "127.0.0.{number}:0"'
        lines.append(line)
    text = "\n".join(lines).replace('state_dir = "."', 'state_dir = "state"\nlog_format = "json"', 1)
    config = os.path.join(folder, "weir.toml")
    open(config, "w").write(f"{text}\n\n[audit]\n{audit}\n")
    log = os.path.join(folder, "log")
    process = subprocess.Popen([WEIR, "serve", "--config", config], stderr=open(log, "w"))
    while True:
        found = [json.loads(l) for l in open(log) if '"listening"' in l]
        if len(found) == number:
            return process, found[0]["address"].rsplit(":", 1)[1]
        if process.poll() is not None:
            sys.exit(open(log).read())
        time.sleep(0.05)


def run(place, program, *args, user, password, database):
    env = dict(os.environ, PGHOST="localhost", PGHOSTADDR="127.0.0.1", PGPORT=str(place), PGUSER=user,
               PGPASSWORD=password, PGDATABASE=database, PGSSLMODE="require")
    ran = subprocess.run([program, *args], env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if ran.returncode:
        sys.exit(f"{program}: {ran.stderr}")
    return ran.stdout


def main():
    demo_process = subprocess.Popen([WEIR, "demo", "--json"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    demo = json.loads(demo_process.stdout.readline())
    root = tempfile.mkdtemp(prefix="weir-bench-")
    running = []
    try:
        direct = demo["direct"]["postgres"]
        alice = dict(user="alice", password=demo["people"]["alice"]["token"], database="customers")
        owner = dict(user=direct["login"], password=open(direct["login_password_file"]).read().strip(), database=direct["database"])
        places = {"direct, TLS": (None, direct["port"], owner)}
        for name, audit in (("level process", 'level = "process"'), ("level disk", 'level = "disk"'),
                            ("full capture", 'level = "process"\ncapture = "full"')):
            process, port = gateway(demo, name.replace(" ", "-"), audit, root)
            running.append(process)
            places[name] = (process.pid, port, alice)
        script = os.path.join(root, "select.sql")
        open(script, "w").write("\\set n random(1, 1000000000)\nSELECT :n;\n")
        rates, cpu, mib, mib_cpu = ({name: [] for name in places} for _ in range(4))
        for _ in range(ROUNDS):
            for name, (pid, port, who) in places.items():
                before = cpu_seconds(pid) if pid else 0
                out = run(port, "pgbench", "-n", "-M", "prepared", "-c", CLIENTS, "-j", "2", "-T", SECONDS, "-f", script, **who)
                done = int(re.search(r"actually processed: (\d+)", out)[1])
                found = re.findall(r"tps = ([\d.]+)", out)
                rates[name].append(float(found[-1] if found else done / float(SECONDS)))
                cpu[name].append((cpu_seconds(pid) - before) / done * 1e6 if pid else 0)
                before, begun = (cpu_seconds(pid) if pid else 0), time.monotonic()
                sql = f"SELECT repeat(md5(n::text), 32) FROM generate_series(1, {RESULT_MIB * 1024}) n"
                run(port, "psql", "-X", "-At", "-o", "/dev/null", "-c", sql, **who)
                mib[name].append(RESULT_MIB / (time.monotonic() - begun))
                mib_cpu[name].append((cpu_seconds(pid) - before) / RESULT_MIB * 1e6 if pid else 0)
        middle = lambda values: sorted(values)[len(values) // 2]
        print(f"{'':14} {'tps':>8} {'of direct':>9} {'CPU us/tx':>10} {'MiB/s':>8} {'of direct':>9} {'CPU us/MiB':>11}")
        base, base_mib = middle(rates["direct, TLS"]), middle(mib["direct, TLS"])
        for name in places:
            rate, bulk = middle(rates[name]), middle(mib[name])
            print(f"{name:14} {rate:8.0f} {rate / base:9.2f} {middle(cpu[name]):10.1f} {bulk:8.0f} {bulk / base_mib:9.2f} {middle(mib_cpu[name]):11.0f}")
    finally:
        for process in [*running, demo_process]:
            process.terminate()
            process.wait()
        shutil.rmtree(root, ignore_errors=True)


main()
