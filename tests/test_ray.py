"""Runs as jobs of Ray, on the fake one of tests/fake_ray.py, which loses answers, jobs, nodes and itself."""

import json
import shutil
import signal
import threading
import time

import fake_ray
import pytest
from bisecting import Bench, check_named, kill, results, wait_for

from bisect_cli import launchers
from bisect_cli.campaign import events
from bisect_cli.errors import UserError
from bisect_cli.launchers import Job, ray, ray_api, scheduler
from bisect_cli.report import nodes
from bisect_cli.storage import store

FAULT = {"segm": [["ROI_ALIGN_MASK"]]}
QUICK = {"poll_seconds": 0.1, "vanish_seconds": 3.0}
WORDS = [word for name, value in QUICK.items() for word in ("--launcher-option", f"{name}={value}")]
START = ("start", "--flags", "L2B5", "--name", "c", "--slots", "3", "--no-parity", "--launcher", "ray", *WORDS)


class Cluster(Bench):
    """A Bench with a fake Ray."""

    def __init__(self, folder, **table):
        super().__init__(folder, **table)
        self.ray = fake_ray.Ray()

    def go(self, name="c", **more):
        return self.run(name, **{"launcher": "ray", "launcher_options": QUICK, "slots": 3, "parity": False, **more})

    def launcher(self, **options):
        """A launcher.Ray that serves a campaign of this folder."""
        made = ray.Ray(2, {**QUICK, **options})
        self.runs.mkdir(exist_ok=True)
        made.open(self.runs, "u", [])
        return made

    def job(self, *argv, key="t01-1", **more):
        folder = self.runs / "trials" / key
        return Job(list(argv), str(self.folder), folder, **{"key": key, **more})

    def once_running(self, do, number=2):
        """A listener that does something with the ticket's key, once, when the n-th run that begins has a step."""
        began, done = [], []

        def listen(event, state, analysis):
            if isinstance(event, events.Began):
                began.append(event.trial)
            if len(began) >= number and not done:
                trial = state.trials[began[number - 1]]
                if (store.trial_folder(self.runs / "c", trial.id) / "out" / "metrics.jsonl").exists():
                    done.append(True)
                    do(trial.ticket["key"])

        return listen


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    for name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(ray_api, "RAYS_TOKEN", str(tmp_path / "no_token"))
    made = Cluster(tmp_path, breaks=FAULT)
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", made.ray.address)
    yield made
    made.ray.close()


def follow(launcher, handle):
    """The Exit of a handle."""
    ends = []

    def look():
        launcher.refresh()
        ends.append(handle.poll())
        return ends[-1] is not None

    wait_for(look)
    return ends[-1]


# --- whole bisects


def test_a_whole_bisect_is_as_on_this_machine(cluster):
    state = cluster.go()
    check_named(cluster)
    local = cluster.run("local", slots=3, parity=False)
    assert results(state) == results(local)
    assert {trial.node for trial in state.trials.values()} == {"n1", "n2", "n3"}
    assert len(cluster.ray.jobs) == len(state.trials)
    assert all(key.startswith(f"mb-{state.settings.uid}-t") for key in cluster.ray.jobs)
    assert not any(trial.ticket for trial in state.trials.values())
    assert {fields["entrypoint_num_cpus"] for fields in cluster.ray.fields} == {1}
    rows = list(nodes.node_rows(state, time.time()))
    assert sum(row[1] for row in rows) == len(state.trials) and not any(row[2] or row[4] for row in rows)


@pytest.mark.parametrize("fault", ["lose", "fail", "slow", "twice"])
def test_whatever_a_submission_is_answered_every_run_is_there_once(cluster, monkeypatch, fault):
    monkeypatch.setattr(scheduler, "SECONDS", 1)
    cluster.ray.submissions = ["", fault, fault, "", fault]
    troubles = []
    state = cluster.go(listen=lambda event, *_: troubles.append(event) if isinstance(event, events.Trouble) else None)
    check_named(cluster)
    assert set(cluster.outcomes()) == {"finished"}
    assert len(cluster.ray.jobs) == len(state.trials)
    assert bool(troubles) == (fault != "twice")


@pytest.mark.parametrize("how", ["its node dies", "it is stopped", "it is forgotten", "it is killed"])
def test_a_run_whose_job_dies_is_resumed(cluster, how):
    cluster.set(breaks=FAULT, seconds=1.5)

    def end(key):
        with cluster.ray.lock:
            job = cluster.ray.jobs[key]
            if how == "its node dies":
                cluster.ray.lose_node(job["node"])
            elif how == "it is stopped":
                fake_ray.stop(job)
            else:
                fake_ray.end(job)
                if how == "it is forgotten":
                    del cluster.ray.jobs[key]

    state = cluster.go(listen=cluster.once_running(end))
    check_named(cluster, again=1)
    assert set(cluster.outcomes()) - {"finished"} == {
        {"it is forgotten": "lost", "it is killed": "crashed"}.get(how, "evicted")
    }
    assert sum(trial.crashes for trial in state.trials.values()) == (how == "it is killed")


def test_a_run_that_ray_has_forgotten_goes_on_alone(cluster):
    """It is asked to end, and only then resumed: never two of it at once."""
    cluster.set(breaks=FAULT, seconds=2.0)
    forgotten = []

    def forget(key):
        with cluster.ray.lock:
            forgotten.append(cluster.ray.jobs.pop(key))

    cluster.go(listen=cluster.once_running(forget))
    check_named(cluster, again=1)
    assert cluster.outcomes().count("evicted") == 1
    fake_ray.end(forgotten[0])


def test_a_head_that_begins_anew_loses_no_run(cluster):
    """What ran there is resumed, what waited is submitted again, and neither costs an attempt."""
    cluster.set(breaks=FAULT, seconds=1.5)
    cluster.ray.nodes = ["n1", "n2"]
    state = cluster.go(listen=cluster.once_running(lambda key: cluster.ray.forget(), number=1), slots=4)
    check_named(cluster, again=None)  # one or both of two
    assert set(cluster.outcomes()) == {"finished", "lost"}
    assert all(trial.crashes == 0 for trial in state.trials.values())


def test_an_outage_decides_nothing(cluster):
    cluster.set(breaks=FAULT, seconds=0.6)
    said = []

    def up():
        cluster.ray.down = False

    def listen(event, state, analysis):
        if isinstance(event, events.Began) and not said:
            said.append("down")
            cluster.ray.down = True
            threading.Timer(2.0, up).start()
        if isinstance(event, events.Trouble):
            said.append(event.words)

    cluster.go(listen=listen)
    check_named(cluster)
    assert set(cluster.outcomes()) == {"finished"}
    assert any("does not answer" in words for words in said) and said[-1] == ""


# --- nodes


def test_a_node_on_which_runs_crash_at_once_is_left_out(cluster):
    cluster.set(breaks=FAULT, seconds=0.3)
    with cluster.failing_on("n2", "BISECT_NODE_NAME"):
        cluster.go()
    crashes = cluster.outcomes().count("crashed")
    assert 1 <= crashes <= 2  # on a slow machine a second run has been sent there before the first has crashed
    check_named(cluster, again=crashes)
    selectors = [fields["entrypoint_label_selector"] for fields in cluster.ray.fields if len(fields) > 4]
    assert len(selectors) > 2 and {json.dumps(one) for one in selectors} == {'{"ray.io/node-id": "!in(idn2)"}'}
    assert any("node n2 is left out" in note for note in cluster.status()["notes"])


def test_a_ray_without_labels_is_asked_without_them(cluster):
    cluster.ray.labels = False
    cluster.set(breaks=FAULT, crashes=[["MASK_LOSS"], 1])
    state = cluster.go()
    assert state.state == "finished" and cluster.outcomes().count("crashed")
    assert sum("entrypoint_label_selector" in fields for fields in cluster.ray.fields) <= 1


def test_a_folder_that_no_node_sees_is_said(cluster):
    cluster.ray.blind = ["n1", "n2", "n3"]
    with pytest.raises(UserError, match=r"no such file: agent.py\).* node, idn\d, has the folder: ls -d .*trials/t0"):
        cluster.go()


def test_a_single_node_that_does_not_see_it_is_left_out(cluster):
    cluster.set(breaks=FAULT, seconds=0.4)
    cluster.ray.blind = ["n3"]
    state = cluster.go()
    check_named(cluster)
    assert "lost" in cluster.outcomes() and all(trial.crashes == 0 for trial in state.trials.values())


# --- waiting


def test_a_queued_run_is_never_hung_and_shows_as_queued(cluster):
    cluster.ray.nodes = ["n1"]
    cluster.set(breaks=FAULT, seconds=0.5)
    seen = set()

    def listen(event, state, analysis):
        if event is None and state.running:
            from bisect_cli.report.summary import summarize

            seen.update(trial["state"] for trial in summarize(cluster.runs / "c", state, analysis)["trials"])

    cluster.go(listen=listen, hung=1.5, slots=6)
    check_named(cluster)
    assert {"queued", "running"} <= seen


def waiting(cluster):
    """The launcher, the handle and the key of a job that Ray has taken, and has no node for."""
    cluster.ray.nodes = []
    launcher = cluster.launcher()
    handle = launcher.prepare(cluster.job("true"))
    handle.go()
    key = handle.ticket["key"]
    wait_for(lambda: launcher.refresh() or key in cluster.ray.jobs)
    return launcher, handle, key


def test_a_job_that_ray_gives_up_in_the_queue_is_submitted_again(cluster):
    launcher, handle, key = waiting(cluster)
    words = "Job supervisor actor failed to start within 900.0 seconds."
    fake_ray.fail(cluster.ray.jobs[key], "JOB_SUPERVISOR_ACTOR_START_TIMEOUT", words)
    wait_for(lambda: launcher.refresh() or handle.poll() or len(cluster.ray.fields) == 2)
    cluster.ray.nodes = ["n1"]
    assert follow(launcher, handle).code == 0 and handle.node == "n1"


def test_a_job_that_ray_loses_before_it_began_is_submitted_again_elsewhere(cluster):
    launcher, handle, key = waiting(cluster)
    with cluster.ray.lock:
        cluster.ray.jobs[key]["node"] = "n1"
        words = "Job supervisor actor died: The actor died unexpectedly before finishing this task."
        fake_ray.fail(cluster.ray.jobs[key], "JOB_SUPERVISOR_ACTOR_DIED", words)
    wait_for(lambda: launcher.refresh() or handle.poll() or launcher.trouble)
    assert launcher.trouble == f"Ray ended a job before it began, and is asked again: {words}"
    cluster.ray.nodes = ["n1", "n2"]
    assert follow(launcher, handle).code == 0 and handle.node == "n2" and launcher.trouble == ""


def test_a_run_taken_back_from_the_queue_never_begins(cluster):
    cluster.ray.nodes = []
    launcher = cluster.launcher()
    handle = launcher.prepare(cluster.job("touch", "ran"))
    handle.go()
    key = handle.ticket["key"]
    wait_for(lambda: launcher.refresh() or key in cluster.ray.jobs)
    handle.ask_to_stop()
    end = handle.poll()
    assert end.outcome == "evicted" and "before it began" in end.reason
    cluster.ray.jobs[key]["stop"] = 0.0  # Ray starts it all the same
    cluster.ray.nodes = ["n1"]
    wait_for(lambda: cluster.ray.jobs[key]["status"] in fake_ray.OVER)
    assert not (cluster.folder / "ran").exists()
    again = launcher.reattach(handle.ticket, handle.folder)
    assert again.poll().outcome == "evicted"


def test_stop_takes_back_what_is_queued(cluster):
    cluster.ray.nodes = []
    controller = cluster.spawn(*START)
    wait_for(lambda: len(cluster.ray.jobs) == 3)
    assert "queued for" in cluster.call("status", "c")[1]
    code, _, err = cluster.call("stop", "c")
    assert code == 0 and controller.wait(timeout=300) == 130, err
    assert all(job["stop"] for job in cluster.ray.jobs.values())
    cluster.ray.nodes = ["n1", "n2", "n3"]
    assert cluster.call("resume", "c")[0] == 0
    check_named(cluster)


# --- stopping, and controllers that die


def test_a_kill_is_at_once_and_ray_ends_what_the_agent_does_not(cluster):
    launcher = cluster.launcher()
    job = cluster.job("sh", "-c", "trap '' TERM; echo; while :; do sleep 1; done", grace=600.0)
    handle = launcher.prepare(job)
    handle.go()
    wait_for(lambda: launcher.refresh() or handle.poll() or (job.folder / "stdout.txt").exists())
    handle.kill()
    assert follow(launcher, handle).code == -signal.SIGKILL
    assert cluster.ray.fields[0]["runtime_env"]["env_vars"] == {"RAY_JOB_STOP_WAIT_TIME_S": "605"}


def test_ctrl_c_saves_and_detach_leaves_running(cluster):
    cluster.set(breaks=FAULT, seconds=60)
    controller = cluster.spawn(*START, "--detach")
    wait_for(lambda: len(cluster.starts()) == 3)
    controller.send_signal(signal.SIGINT)
    out, err = controller.communicate(timeout=300)
    assert controller.returncode == 130 and "Interrupted, but its runs go on: " in out, err
    assert len(cluster.ray.running()) == 3

    controller = cluster.spawn("resume", "c", "--slots", "3")
    wait_for(lambda: sum(event["kind"] == "reattached" for event in cluster.events()) == 3)
    controller.send_signal(signal.SIGINT)
    out, err = controller.communicate(timeout=300)
    assert controller.returncode == 130 and "Interrupted (stopped on request)" in out, err
    assert [event["code"] for event in cluster.events() if event.get("outcome") == "stopped"] == [143] * 3
    cluster.set(breaks=FAULT)
    assert cluster.call("resume", "c")[0] == 0
    check_named(cluster, again=3)


def test_sigkill_of_the_controller_then_resume(cluster):
    cluster.set(breaks=FAULT, seconds=3)
    controller = cluster.spawn(*START)
    wait_for(lambda: len(cluster.starts()) >= 4)
    kill(controller)
    orphan = "mb-{}-parity-1".format(store.load(cluster.runs / "c")[0].settings.uid)
    with cluster.ray.lock:  # as if parity of a controller that died were there still, and one of a copy's
        for key, folder in ((orphan, cluster.runs / "c" / "parity"), (f"{orphan}-x", cluster.folder / "a-copy")):
            env = {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "1"}}
            cluster.ray.submit({"submission_id": key, "entrypoint": f"sleep 99; : {folder}", "runtime_env": env})
            cluster.ray.jobs[key]["avoid"] = ["idn1", "idn2", "idn3"]
    cluster.set(breaks=FAULT)
    code, out, err = cluster.call("resume", "c", "--slots", "3")
    assert code == 0, err
    assert "taken over" in out
    check_named(cluster)
    assert cluster.ray.jobs[orphan]["stop"] and not cluster.ray.jobs[f"{orphan}-x"]["stop"]


def test_what_was_logged_and_never_submitted_is_submitted_by_the_next(cluster):
    launcher = cluster.launcher()
    handle = launcher.prepare(cluster.job("true"))
    assert not cluster.ray.requests  # the controller dies here
    again = cluster.launcher().reattach(json.loads(json.dumps(handle.ticket)), handle.folder)
    assert follow(again.launcher, again).code == 0
    assert len(cluster.ray.jobs) == 1


def test_a_copy_of_a_campaign_leaves_the_jobs_alone(cluster):
    launcher = cluster.launcher()
    handle = launcher.prepare(cluster.job("sleep", "99"))
    handle.go()
    wait_for(lambda: launcher.refresh() or handle.poll() or cluster.ray.running())
    shutil.copytree(cluster.runs, cluster.folder / "copy")
    other = ray.Ray(2, QUICK)
    other.open(cluster.folder / "copy", "u", [])
    folder = cluster.folder / "copy" / "trials" / "t01-1"
    (folder / "claim.json").write_text('{"node": "n1"}')  # copied in the middle of a run
    copy = other.reattach(handle.ticket, folder)
    copy.kill()
    end = follow(other, copy)
    assert end.outcome == "lost" and "belongs to a copy" in end.reason
    other.scheduler.finish(5)
    assert cluster.ray.running() == [handle.ticket["key"]]


# --- what is said before any run


def test_options_become_fields_of_a_job(tmp_path):
    texts = [
        ("gpus", "0.5"),
        ("memory", "1.5G"),
        ("resources", "a100=1"),
        ("resources", "x=2"),
        ("labels", "zone=eu"),
    ]
    assert ray.resources_of(launchers.parse_options("ray", texts)) == {
        **{"entrypoint_num_cpus": 1, "entrypoint_num_gpus": 0.5, "entrypoint_memory": 3 * 2**29},
        **{"entrypoint_resources": {"a100": 1.0, "x": 2.0}, "entrypoint_label_selector": {"zone": "eu"}},
    }
    from bisect_cli.trainers import trainerfile

    tables = {
        "trainer": {"command": ["true", "{out}", "{flags}"]},
        "flags": {"a": {}},
        "metrics": {"acc": {"source": "json", "file": "{out}/r.json", "key": "acc", "better": "higher"}},
        "launcher": {"name": "ray", "cpus": 4, "resources": ["a100=1"]},
    }
    found = trainerfile.spec_of(tables, tmp_path).options["launcher"]
    assert found == {"name": "ray", "options": {"cpus": 4, "resources": ["a100=1"]}}


def test_a_command_is_quoted(cluster):
    launcher = cluster.launcher(python="/usr/my python/bin/python3;")
    handle = launcher.prepare(cluster.job("true"))
    handle.go()
    wait_for(lambda: launcher.refresh() or cluster.ray.fields)
    words = f"'/usr/my python/bin/python3;' -I -S {cluster.runs}/agent.py {handle.folder}"
    assert cluster.ray.fields[0]["entrypoint"] == words


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("adress=x", "unknown option of launcher ray 'adress': did you mean address"),
        ("cpus=0", "--launcher-option cpus: '0' is not right: write a whole number above 0"),
        ("memory=much", "memory=much: write a size, as 32G."),
        ("resources=a100", "resources=a100: write NAME=VALUE"),
        ("resources=a100=none", "resources=a100=none: write a number above 0."),
        ("address=ray://head:10001", "jobs need the dashboard's address, as address=http://HEAD:8265."),
        (
            "address=http://127.0.0.1:9",
            "Ray at http://127.0.0.1:9 does not answer: Connection refused; start Ray there",
        ),
        ("token_file=nowhere", "the file of Ray's token, nowhere: No such file or directory."),
    ],
)
def test_wrong_options_are_said_before_any_run(cluster, words, said):
    code, _, err = cluster.call(*START, "--launcher-option", words)
    assert code == 2 and said in err and err.count("\n") == 1
    assert not cluster.ray.jobs and not cluster.runs.exists()


def test_a_ray_that_is_too_old_or_none_at_all_is_said(cluster, monkeypatch):
    cluster.ray.version = "2.8.1"
    with pytest.raises(UserError, match=r"Ray 2\.8\.1 at http.* is too old: this needs 2\.9 or later; renew it\."):
        ray.Ray().check()
    cluster.ray.version = "2.51.2"
    ray.Ray().check()
    with pytest.raises(UserError, match=r"Ray 2\.51\.2 at http.* is too old: labels= needs 2\.54 or later"):
        ray.Ray(1, {"labels": ["zone=eu"]}).check()
    cluster.ray.version = None
    with pytest.raises(UserError, match="is no dashboard of Ray; mend the address"):
        ray.Ray().check()
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", f"{cluster.ray.address}/elsewhere")
    with pytest.raises(UserError, match=r"is no dashboard of Ray \(not found\); mend the address"):
        ray.Ray().check()


def test_a_token_is_taken_from_where_it_is_and_never_shown(cluster, monkeypatch, tmp_path):
    cluster.ray.token = "s3cret"
    with pytest.raises(UserError, match="Ray wants a token at http.*: set RAY_AUTH_TOKEN, or give token_file=FILE"):
        ray.Ray().check()
    monkeypatch.setenv("RAY_AUTH_TOKEN", "wrong")
    with pytest.raises(UserError, match="Ray refuses the token at http"):
        ray.Ray().check()
    monkeypatch.setenv("RAY_AUTH_TOKEN", "s3cret\nmore")
    with pytest.raises(UserError, match="RAY_AUTH_TOKEN holds no token of Ray") as caught:
        ray.Ray().check()
    assert "s3cret" not in str(caught.value)
    (tmp_path / "token").write_text("s3cret\n")
    options = {**QUICK, "token_file": str(tmp_path / "token")}
    ray.Ray(1, options).check()
    cluster.go(launcher_options=options)
    check_named(cluster)
    written = [path for path in cluster.runs.rglob("*") if path.is_file() and b"s3cret" in path.read_bytes()]
    assert written == []


def test_what_ray_refuses_ends_the_campaign_with_its_words(cluster):
    cluster.ray.refuse = "Invalid label selector"
    with pytest.raises(UserError, match="Ray refuses a run: Invalid label selector; mend --launcher-option"):
        cluster.go()
    cluster.ray.refuse = ""
    cluster.go()
    check_named(cluster)
