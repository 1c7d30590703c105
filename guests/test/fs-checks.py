# What programs count on of a file system, tried in the directory that is the first argument (test/lab/fs.test.ts).
# Prints "ok NAME" or "failed NAME: why" for each check, and goes on.
import ctypes, fcntl, hashlib, mmap, os, random, shutil, sqlite3, stat, subprocess, sys, time, traceback

top = sys.argv[1]
libc = ctypes.CDLL(None, use_errno=True)
checks = []


def check(function):
    checks.append(function)
    return function


def run(*command, **options):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options).stdout


def write(path, data):
    with open(path, "wb") as file:
        file.write(data)


def read(path):
    with open(path, "rb") as file:
        return file.read()


def as_user(work):
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(1000)
            os.setuid(1000)
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0


@check
def names():
    for name in ["plain", "ünïcode", b"\xff\xfe".decode("utf8", "surrogateescape"), "x" * 255, " ", "new\nline"]:
        write(name, b"x")
    assert len(os.listdir(".")) == 6
    os.rename("plain", "other")
    assert not os.path.exists("plain") and os.path.exists("other")
    try:
        os.mkdir("x" * 256)
        raise AssertionError("too long a name")
    except OSError as error:
        assert error.errno == 36


@check
def rename_over_and_unlink_while_open():
    write("a", b"old")
    write("b", b"new")
    with open("a", "r+b") as old:
        os.rename("b", "a")
        assert old.read() == b"old" and read("a") == b"new"
        os.unlink("a")
        old.write(b"er")
        old.seek(0)
        assert old.read() == b"older" and os.fstat(old.fileno()).st_nlink == 0
    assert os.listdir(".") == []


@check
def tmpfile():
    fd = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o600)
    os.write(fd, b"complete")
    assert os.listdir(".") == []
    assert libc.linkat(-100, b"/proc/self/fd/%d" % fd, -100, b"now", 0x400) == 0
    os.close(fd)
    assert read("now") == b"complete"


@check
def exchange():
    write("a", b"a")
    os.mkdir("b")
    assert libc.renameat2(-100, b"a", -100, b"b", 2) == 0
    assert os.path.isdir("a") and read("b") == b"a"
    assert libc.renameat2(-100, b"b", -100, b"a", 1) == -1 and ctypes.get_errno() == 17


@check
def mapped():
    write("file", bytes(65536))
    with open("file", "r+b") as file:
        with mmap.mmap(file.fileno(), 65536) as area:
            area[4096:4104] = b"mapped!!"
            area.flush()
            assert os.pread(file.fileno(), 8, 4096) == b"mapped!!"
            os.pwrite(file.fileno(), b"written!", 8192)
            assert area[8192:8200] == b"written!"
    assert read("file")[4096:4104] == b"mapped!!"


@check
def execute():
    shutil.copy("/usr/bin/true", "program")
    assert subprocess.run(["./program"]).returncode == 0
    try:
        with open("program", "r+b"):
            pass
    except OSError as error:
        assert error.errno == 26
    write("script", b"#!/bin/sh\necho $1\n")
    os.chmod("script", 0o755)
    assert run("./script", "hello") == "hello\n"


@check
def append():
    children = []
    for which in range(4):
        child = os.fork()
        if child == 0:
            with open("log", "ab", buffering=0) as log:
                for i in range(20):
                    log.write(b"%d line %03d\n" % (which, i))
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    lines = read("log").splitlines()
    assert len(lines) == 80 and len(set(lines)) == 80


@check
def locks():
    with open("lock", "w") as mine:
        fcntl.flock(mine, fcntl.LOCK_EX)
        fcntl.lockf(mine, fcntl.LOCK_EX, 10, 0)
        child = os.fork()
        if child == 0:
            refused = 0
            with open("lock", "r+") as other:
                for lock in (fcntl.flock, fcntl.lockf):
                    try:
                        lock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    except OSError:
                        refused += 1
            os._exit(refused)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2


@check
def sqlite():
    for mode in ("delete", "wal"):
        name = f"{mode}.db"
        database = sqlite3.connect(name)
        assert database.execute(f"pragma journal_mode={mode}").fetchone()[0] == mode
        database.execute("create table t (who integer, n integer)")
        database.commit()
        database.close()
        children = []
        for who in range(3):
            child = os.fork()
            if child == 0:
                own = sqlite3.connect(name, timeout=60)
                for n in range(5):
                    own.execute("insert into t values (?, ?)", (who, n))
                    own.commit()
                os._exit(0)
            children.append(child)
        for child in children:
            assert os.waitpid(child, 0)[1] == 0
        database = sqlite3.connect(name)
        assert database.execute("select count(*) from t").fetchone()[0] == 15
        assert database.execute("pragma integrity_check").fetchone()[0] == "ok"
        database.close()


@check
def sparse():
    with open("sparse", "wb") as file:
        file.seek(10 << 20)
        file.write(b"x" * 4096)
    assert os.stat("sparse").st_blocks * 512 < 1 << 20
    with open("sparse", "r+b") as file:
        assert os.lseek(file.fileno(), 0, os.SEEK_DATA) == 10 << 20
        os.posix_fallocate(file.fileno(), 0, 1 << 20)
        assert libc.fallocate(file.fileno(), 3, ctypes.c_long(0), ctypes.c_long(1 << 20)) == 0
    run("cp", "--sparse=always", "sparse", "copy")
    assert read("copy") == read("sparse")


@check
def xattrs():
    write("file", b"x")
    os.setxattr("file", "user.colour", b"green")
    os.setxattr("file", "user.large", b"y" * 3000)
    assert os.getxattr("file", "user.colour") == b"green" and len(os.getxattr("file", "user.large")) == 3000
    assert sorted(os.listxattr("file")) == ["user.colour", "user.large"]
    os.removexattr("file", "user.large")
    os.setxattr("file", "trusted.overlay.opaque", b"y")
    assert sorted(os.listxattr("file")) == ["trusted.overlay.opaque", "user.colour"]


@check
def tar():
    os.mkdir("tree")
    for i in range(60):
        os.makedirs(f"tree/{i % 20}", exist_ok=True)
        write(f"tree/{i % 20}/{i}", os.urandom(random.randrange(8000)))
    os.link("tree/1/1", "tree/hard")
    os.symlink("1/21", "tree/soft")
    os.mkfifo("tree/fifo")
    os.chmod("tree/2/2", 0o4751)
    os.chown("tree/3/3", 1234, 4321)
    os.setxattr("tree/4/4", "user.a", b"b")
    with open("tree/sparse", "wb") as file:
        file.truncate(5 << 20)
    run("tar", "--xattrs", "--sparse", "-cf", "tree.tar", "tree")
    os.mkdir("out")
    run("tar", "--xattrs", "-xpf", "tree.tar", "-C", "out")
    run("diff", "-r", "--exclude=fifo", "tree", "out/tree")
    assert os.stat("out/tree/hard").st_ino == os.stat("out/tree/1/1").st_ino
    assert stat.S_IMODE(os.stat("out/tree/2/2").st_mode) == 0o4751
    assert (os.stat("out/tree/3/3").st_uid, os.stat("out/tree/3/3").st_gid) == (1234, 4321)
    assert os.getxattr("out/tree/4/4", "user.a") == b"b"
    assert stat.S_ISFIFO(os.stat("out/tree/fifo").st_mode) and os.stat("out/tree/sparse").st_blocks < 100
    times = [int(os.stat(f"{where}/5/5").st_mtime) for where in ("tree", "out/tree")]
    assert times[0] == times[1]


@check
def many():
    os.mkdir("many")
    for i in range(400):
        write(f"many/{i}", b"")
    assert sorted(map(int, os.listdir("many"))) == list(range(400))
    assert sum(1 for entry in os.scandir("many") if entry.is_file() and entry.stat().st_size == 0) == 400
    run("rm", "-r", "many")
    assert os.listdir(".") == []


@check
def permissions():
    os.chmod(".", 0o777)

    def work():
        write("mine", b"x")
        assert os.stat("mine").st_uid == 1000
        try:
            read("secret")
            raise AssertionError("read what is not readable")
        except PermissionError:
            pass
        with open("setuid", "ab") as file:
            file.write(b"y")

    write("secret", b"x")
    os.chmod("secret", 0o600)
    write("setuid", b"x")
    os.chmod("setuid", 0o6777)
    as_user(work)
    assert stat.S_IMODE(os.stat("setuid").st_mode) == 0o777
    os.mkdir("group")
    os.chown("group", 0, 777)
    os.chmod("group", 0o2775)
    os.mkdir("group/inner")
    assert os.stat("group/inner").st_gid == 777 and os.stat("group/inner").st_mode & 0o2000


@check
def large():
    block = os.urandom(1 << 20)
    digest = hashlib.sha256()
    with open("large", "wb") as file:
        for i in range(8):
            piece = block[i:] + block[:i]
            digest.update(piece)
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    os.posix_fadvise(os.open("large", os.O_RDONLY), 0, 0, os.POSIX_FADV_DONTNEED)
    assert hashlib.sha256(read("large")).digest() == digest.digest()
    print("large", digest.hexdigest())


@check
def git():
    environment = {**os.environ, "HOME": os.getcwd(), "GIT_CONFIG_NOSYSTEM": "1"}
    run("git", "config", "--global", "user.email", "a@b", env=environment)
    run("git", "config", "--global", "user.name", "a", env=environment)
    run("git", "init", "-q", "-b", "main", "source", env=environment)
    for i in range(10):
        write(f"source/file-{i}", b"line\n" * (i + 1))
    for command in (["add", "."], ["commit", "-qm", "first"], ["checkout", "-qb", "other"], ["rm", "-q", "file-3"],
                    ["commit", "-qm", "second"], ["checkout", "-q", "main"]):
        run("git", "-C", "source", *command, env=environment)
    run("git", "clone", "-q", "source", "clone", env=environment)
    run("git", "-C", "clone", "checkout", "-q", "other", env=environment)
    assert not os.path.exists("clone/file-3") and os.path.exists("clone/file-4")
    assert run("git", "-C", "clone", "status", "--porcelain", env=environment) == ""
    run("git", "-C", "clone", "fsck", "--strict", env=environment)


@check
def npm():
    os.makedirs("packed/package")
    write("packed/package/package.json", b'{"name": "forty", "version": "1.0.0", "bin": {"forty": "run.js"}}')
    write("packed/package/index.js", b"module.exports = 42;\n")
    write("packed/package/run.js", b'#!/usr/bin/env node\nconsole.log(require("forty") + 1);\n')
    run("tar", "-czf", "forty.tgz", "-C", "packed", "package")
    os.makedirs("application/local")
    write("application/package.json", b'{"name": "application", "version": "1.0.0"}')
    write("application/local/package.json", b'{"name": "local", "version": "2.0.0"}')
    environment = {**os.environ, "HOME": os.getcwd()}
    install = ["npm", "install", "--offline", "--no-audit", "--no-fund", "--no-update-notifier"]
    run(*install, "../forty.tgz", "file:./local", cwd="application", env=environment)
    assert run("node_modules/.bin/forty", cwd="application") == "43\n"
    assert os.readlink("application/node_modules/local") == "../local"


@check
def thousands():
    # Made by the host: more than a process may usually have open.
    found = 0
    for entry in os.scandir(f"{top}/../thousands"):
        assert entry.stat().st_size == 0
        found += 1
    assert found == 20000, found


chosen = sys.argv[2:]
for function in checks:
    name = function.__name__
    if chosen and name not in chosen:
        continue
    os.chdir(top)
    os.mkdir(name)
    os.chdir(name)
    started = time.monotonic()
    try:
        function()
        print(f"ok {name} {time.monotonic() - started:.1f} s", flush=True)
    except BaseException as error:
        what = getattr(error, "stdout", None) or "".join(traceback.format_exception(error)[-2:])
        print(f"failed {name}: {what}", flush=True)
