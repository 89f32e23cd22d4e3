#!/usr/bin/env -S python3 -I -S
"""What stands in for systemd on the devices of test-update.sh: as `systemctl` and `journalctl` its commands, as `init` the
process that runs units by their own files. It knows as much as headwater.service and update.sh's own unit need: ExecStart,
Type (notify waits for READY=1), Restart and RestartSec, RestartPreventExitStatus, EnvironmentFile-less services of root,
WantedBy=multi-user.target. When it ends, everything ends: that is the power cut."""

import json, os, shlex, signal, socket, sys, threading, time

SOCKET = "/run/init.sock"
FOLDERS = ("/etc/systemd/system", "/usr/lib/headwater-units")
WANTS = "/etc/systemd/system/multi-user.target.wants"
units, lock = {}, threading.RLock()


class Unit:
    def __init__(self, name):
        self.name, self.pid, self.state, self.restarts = name, 0, "inactive", 0
        self.result, self.status, self.stopping, self.flush, self.timer = "success", 0, False, True, None
        self.load()

    def path(self):
        return next((p for p in (f"{f}/{self.name}" for f in FOLDERS) if os.path.exists(p)), None)

    def load(self):
        self.conf = {}
        for line in open(self.path()) if self.path() else ():
            key, sep, value = line.strip().partition("=")
            if sep and not line.startswith("#"):
                self.conf[key] = value

    def start(self):
        if self.state in ("active", "activating") and self.pid:
            return
        self.load()
        if not self.conf.get("ExecStart"):
            return
        if self.timer:
            self.timer.cancel()
        if self.flush:
            self.restarts, self.flush = 0, False
        words, env = shlex.split(self.conf["ExecStart"]), dict(os.environ)
        notify = self.conf.get("Type") == "notify"
        if notify:
            env["NOTIFY_SOCKET"] = f"/run/notify-{self.name}"
            if os.path.exists(env["NOTIFY_SOCKET"]):
                os.unlink(env["NOTIFY_SOCKET"])
            ready = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            ready.bind(env["NOTIFY_SOCKET"])
        log = os.open(f"/run/log-{self.name}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        null = os.open("/dev/null", os.O_RDONLY)
        actions = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2)]
        self.stopping, self.state, self.status = False, "activating" if notify else "active", 0
        try:
            self.pid = os.posix_spawn(words[0], words, env, file_actions=actions, setpgroup=0)
        except OSError:
            self.pid = 0
            self.ended(203 << 8)
        os.close(log), os.close(null)
        if notify and self.pid:
            threading.Thread(target=self.await_ready, args=(ready, self.pid), daemon=True).start()

    def await_ready(self, ready, pid):
        while self.pid == pid:
            ready.settimeout(0.5)
            try:
                words = ready.recv(4096).decode().split("\n")
            except OSError:
                continue
            with lock:
                if self.pid == pid and "READY=1" in words and self.state == "activating":
                    self.state = "active"
        ready.close()

    def ended(self, status):
        self.pid = 0
        code = os.waitstatus_to_exitcode(status)
        self.status, self.result = abs(code), "success" if code == 0 else "exit-code" if code > 0 else "signal"
        policy = self.conf.get("Restart", "no")
        prevented = self.conf.get("RestartPreventExitStatus") == str(code)
        again = not self.stopping and not prevented and (policy == "always" or policy == "on-failure" and code != 0)
        self.state = "inactive" if self.stopping or code == 0 else "failed"
        self.flush = not again
        if again:
            self.state = "activating"
            self.timer = threading.Timer(float(self.conf.get("RestartSec", "0.1").rstrip("s")), self.restart)
            self.timer.daemon = True
            self.timer.start()

    def restart(self):
        with lock:
            if not self.stopping and not self.pid:
                self.restarts += 1
                self.start()

    def stop(self):
        with lock:
            self.stopping, pid = True, self.pid
            if self.timer:
                self.timer.cancel()
            if not pid:
                self.state, self.flush = "inactive", True
                return
            os.kill(pid, signal.SIGTERM)
        for n in range(200):
            if self.pid != pid:
                return
            if n == 150:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)

    def show(self, what):
        words = self.conf.get("ExecStart", "")
        return {
            "ActiveState": self.state, "MainPID": str(self.pid), "NRestarts": str(self.restarts), "Result": self.result,
            "ExecMainStatus": str(self.status),
            "ExecStart": f"{{ path={words.split(' ')[0]} ; argv[]={words} ; ignore_errors=no ; pid=0 }}" if words else "",
        }[what]


def unit(name):
    with lock:
        return units.setdefault(name, Unit(name))


def systemctl(args):
    words = [w for w in args if not w.startswith("-")]
    verb, names = words[0], words[1:]
    if verb == "power-cut":
        os._exit(0)
    if verb == "show":
        what = names.pop(0)
        found = unit(names[0])
        if not found.pid:
            found.load()
        return 0, found.show(what)
    for name in names:
        found = unit(name)
        if verb == "start":
            with lock:
                found.start()
        elif verb == "stop":
            found.stop()
        elif verb == "enable":
            if not found.path():
                return 1, ""
            os.makedirs(WANTS, exist_ok=True)
            if not os.path.lexists(f"{WANTS}/{name}"):
                os.symlink(found.path(), f"{WANTS}/{name}")
        elif verb == "disable" and os.path.lexists(f"{WANTS}/{name}"):
            os.unlink(f"{WANTS}/{name}")
        elif verb == "is-active":
            return (0 if found.state == "active" else 3), ""
    return 0, ""


def serve(connection):
    with connection:
        args = json.loads(connection.makefile().readline())
        code, out = systemctl(args)
        connection.sendall(json.dumps([code, out]).encode() + b"\n")


def init(command):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(SOCKET)
    listener.listen()

    def accept():
        while True:
            threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    os.posix_spawn(command[0], command, os.environ)
    with lock:
        for name in sorted(os.listdir(WANTS)) if os.path.isdir(WANTS) else ():
            unit(name).start()
    while True:
        try:
            pid, status = os.waitpid(-1, 0)
        except ChildProcessError:
            time.sleep(0.05)
            continue
        with lock:
            for found in units.values():
                if found.pid == pid:
                    found.ended(status)


called = os.path.basename(sys.argv[0])
if called == "systemctl":
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(SOCKET)
        connection.sendall(json.dumps(sys.argv[1:]).encode() + b"\n")
        code, out = json.loads(connection.makefile().readline())
    if out:
        print(out)
    sys.exit(code)
elif called == "journalctl":
    name = sys.argv[sys.argv.index("-u") + 1]
    lines = int(sys.argv[sys.argv.index("-n") + 1])
    if os.path.exists(f"/run/log-{name}"):
        sys.stdout.write("".join(open(f"/run/log-{name}", errors="replace").readlines()[-lines:]))
else:
    init(sys.argv[1:])
