"""The annotation page's server: what it refuses, that nothing is lost, and labels made through it alone."""

import http.client
import json
import random
import re
import signal
from urllib.parse import quote, urlsplit

import numpy as np
import yaml

from core.label_files.files import read_weak_label
from core.labeling.annotation.journal import read_journal
from core.labeling.annotation.proposals import read_proposal
from tests.annotating import ANNOTATE, PRESEG, known, serving, size_of, start_server
from tests.entry import refusal, run_script


def test_what_is_not_the_pages_is_refused(to_label):
    journal = to_label.more["proposals.journal"]
    with serving(to_label) as client:
        port = client.netloc.split(":")[1]
        undo = json.dumps({"action": "undo"})
        for headers in (
            {"Authorization": ""},
            {"Authorization": "Bearer wrong"},
            {"Host": "evil.example"},
            {"Host": f"evil.example:{port}"},
            {"Origin": "http://evil.example"},
            {"Origin": "null"},
            {"Origin": f"https://{client.netloc}"},
        ):
            for request in (("GET", "/api/session", None), ("GET", "/app.js", None), ("POST", "/api/action", undo)):
                status, content = client.ask(*request, headers=client.headers | headers)
                assert status == 403 and b"error" in content
        assert client.ask("GET", "/?token=wrong", headers={})[0] == 403
        for path in (
            "/../app.js",
            "/three/../../run.py",
            "/%2e%2e/run.py",
            "/api/frame/..%2f..%2fclasses.yaml",
            "/api/frame/%2fetc%2fpasswd",
            "/api/image/../0",
            "//etc/passwd",
            "/index.html/..",
            "/api/frame/none",
        ):
            assert client.ask("GET", path)[0] == 404, path
        for headers, status in (
            ({"Content-Length": str(1 << 30)}, 413),
            ({"Content-Length": "9" * 40}, 413),
            ({"Content-Length": "-1"}, 411),
            ({"Transfer-Encoding": "chunked"}, 411),
            ({"Content-Type": "text/plain", "Content-Length": str(len(undo))}, 400),
        ):
            body = undo if status == 400 else None
            assert client.ask("POST", "/api/action", body, client.headers | headers)[0] == status, headers
        assert client.ask("POST", "/api/action", "[" * 100000)[0] == 400
        same = {"Origin": f"http://{client.netloc}"}
        assert client.ask("GET", "/app.js", headers=client.headers | same)[0] == 200
        assert size_of(journal) == 0


def test_the_token_becomes_a_cookie(to_label):
    with serving(to_label) as client:
        connection = http.client.HTTPConnection(client.netloc)
        address = urlsplit(client.address)
        connection.request("GET", f"/?{address.query}")
        response = connection.getresponse()
        response.read()
        cookie = response.getheader("Set-Cookie")
        assert response.status == 303 and response.getheader("Location") == "/"
        assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
        connection.request("GET", "/", headers={"Cookie": cookie.split(";")[0]})
        response = connection.getresponse()
        page = response.read().decode()
        assert response.status == 200 and "default-src 'none'" in response.getheader("Content-Security-Policy")
        for name in re.findall(r"(?:src|href)=\"([\w./]+)\"", page):
            connection.request("GET", f"/{name}", headers={"Cookie": cookie.split(";")[0]})
            response = connection.getresponse()
            assert response.status == 200 and response.read(), name
        assert not re.search(r"(?:src|href)=\"https?:", page)
        connection.close()


def test_frames_and_components(to_label):
    """The binary of a frame is its points and components; a component's pixels lie in its cameras' images."""
    with serving(to_label) as client:
        overview = client.get("/api/session")
        names = [c["name"] for c in overview["classes"]]
        assert len({c["key"] for c in overview["classes"]}) == len(names)
        assert overview["statistics"]["all_components"] == len(overview["queue"])
        token = overview["windows"][0]["frames"][1]
        status, content = client.ask("GET", f"/api/frame/{quote(token)}")
        count = int(np.frombuffer(content, "<u4", 1)[0])
        assert status == 200 and len(content) == 4 + 16 * count
        proposal = read_proposal(to_label.more["proposals.path"], token)
        np.testing.assert_array_equal(np.frombuffer(content, "<i4", offset=4 + 12 * count), proposal.component)
        seen = 0
        for window, component, size in overview["queue"][:20]:
            place = f"/api/component/{quote(overview['windows'][window]['token'])}/{component}"
            found = client.get(place)
            assert sum(found["counts"]) == size
            assert found["counts"][overview["windows"][window]["frames"].index(found["frame"])] == max(found["counts"])
            for picture in found["pictures"]:
                pixels = np.reshape(picture["pixels"], (-1, 2))
                assert (pixels >= 0).all() and (pixels < [picture["width"], picture["height"]]).all()
                image = client.ask("GET", f"/api/image/{quote(found['frame'])}/{picture['camera']}")
                assert image[0] == 200 and image[1].startswith(b"\xff\xd8")
                seen += 1
        assert seen


def test_undo_and_redo_without_limit(to_label):
    with serving(to_label) as client:
        states = [known(client)]
        for place, name in enumerate(["car", "road", "ignored"]):
            changed = client.label(place, name, seconds=1.5)
            states.append(known(client))
            assert changed["statistics"]["components"] == place + 1
        client.act("skip", **client.target(0))
        states.append(known(client))
        client.act("clear", **client.target(1))
        states.append(known(client))
        for expected in states[-2::-1]:
            assert client.act("undo")["component"] is not None
            assert known(client) == expected
        assert client.act("undo")["component"] is None
        for expected in states[1:]:
            client.act("redo")
            assert known(client) == expected
        statistics = client.get("/api/session")["statistics"]
        assert (statistics["clicks"], statistics["median_seconds"], statistics["ignored"]) == (2, 1.5, 1)
        # another page hears of what changed since it asked last
        revision = client.get("/api/session")["revision"]
        client.label(5, "pole")
        assert len(client.get(f"/api/changes?since={revision}")["states"]) == 1
        assert client.get(f"/api/changes?since={revision + 1}")["states"] == []
        last = known(client)
    with serving(to_label) as client:
        assert known(client) == last


def test_nonsense_leaves_the_journal_whole(to_label):
    journal = to_label.more["proposals.journal"]
    with serving(to_label) as client:
        client.label(0, "car")
        whole = size_of(journal)
        good = {**client.target(1), "classes": ["car"], "frame": client.get("/api/session")["windows"][0]["frames"][0]}
        point = {"frame": good["frame"], "row": 0, "class": "car"}
        nonsense = [
            None,
            True,
            -1,
            1.5,
            10**30,
            "",
            "nope",
            "../x",
            [],
            [[]],
            {},
            [None],
            [point],
            [{**point, "row": -1}],
        ]
        rng = random.Random(3)
        accepted = 0
        for _ in range(300):
            action = {"action": rng.choice(["label", "skip", "clear", "undo", "redo", 3]), **good, "seconds": 1}
            for _ in range(rng.randint(1, 3)):
                key = rng.choice(["action", "window", "component", "classes", "complete", "frame", "points", "seconds"])
                action[key] = rng.choice(nonsense)
            status, content = client.ask("POST", "/api/action", json.dumps(action))
            assert status in (200, 400), (action, content)
            accepted += status == 200
        for body in (b"", b"null", b"[]", b"{", b'{"action": "label"}', b"\xff\xfe", b'{"action": NaN}'):
            assert client.ask("POST", "/api/action", body)[0] == 400
        states = known(client)
    with open(journal, "rb") as file:
        content = file.read()
    assert size_of(journal) >= whole and content.count(b"\n") == 1 + accepted
    read_journal(journal)
    with serving(to_label) as client:
        assert known(client) == states


def test_killed_between_two_clicks_and_started_again(to_label):
    process, client = start_server(to_label)
    try:
        client.label(0, "car")
        client.label(1, "road", seconds=2)
        client.act("undo")
        states = known(client)
        assert "in use by another process" in refusal("annotate", ANNOTATE, *to_label.words(), "--port", "0")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    with open(to_label.more["proposals.journal"], "ab") as file:
        file.write(b'{"format": 1, "time": 17')  # as if killed while it wrote
    with serving(to_label) as client:
        assert known(client) == states
        assert client.act("redo")["component"] is not None
        assert client.get("/api/session")["statistics"]["components"] == 2


def test_all_ground_at_once(to_label):
    """Of one window, but for what has an answer; one undo takes it back, one redo brings it again."""
    with serving(to_label) as client:
        overview = client.get("/api/session")
        window = overview["windows"][1]
        ground = [k for i, k, _ in overview["queue"] if i == 1 and k < window["ground"]]
        assert len(ground) > 1
        frame = client.get(f"/api/component/{quote(window['token'])}/{ground[0]}")["frame"]
        target = {"window": window["token"], "component": ground[0]}
        client.act("label", **target, classes=["sidewalk"], frame=frame)
        before = known(client)
        answer = client.act("ground", window=window["token"], classes=["road"], seconds=3)
        assert answer["statistics"]["components"] == len(ground)
        after = known(client)
        road = [c["name"] for c in overview["classes"]].index("road") + 1
        assert [s[:2] for s in after if s[2]["classes"] == [road]] == [
            [1, k] for k in sorted(ground)[:] if k != ground[0]
        ]
        client.act("ground", 400, window=window["token"], classes=["road"])
        client.act("undo")
        assert known(client) == before
        client.act("redo")
        assert known(client) == after
    with serving(to_label) as client:
        assert known(client) == after
        client.act("undo")
        assert known(client) == before


def cut_in_the_middle(client, place):
    """Cuts a component by an upright plane through its middle; its target, and the rows in front in each frame."""
    target = client.target(place)
    window = next(w for w in client.get("/api/session")["windows"] if w["token"] == target["window"])
    clouds = {token: client.cloud(token) for token in window["frames"]}
    frame = window["frames"][0]
    xyz, component = clouds[frame]
    normal = np.array([0.6, 0.8, 0.0])
    offset = -float(np.median(xyz[component == target["component"]] @ normal))
    answer = client.act("cut", **target, frame=frame, plane=[*normal, offset])
    assert answer["cut"] and answer["statistics"]["components"] == 0
    return target, frame, (component == target["component"]) & (xyz.astype(float) @ normal + offset > 0)


def test_a_cut(to_label):
    """Two components, in all frames of the window, in the queue, and in the labels; undone and redone."""
    with serving(to_label) as client:
        before, whole = client.get("/api/session"), None
        target, frame, front = cut_in_the_middle(client, 0)
        after = client.get("/api/session")
        whole = client.cloud(frame)[1]
        part = int(whole.max())
        np.testing.assert_array_equal(whole == part, front)
        assert front.sum() > 0
        index, component, size = before["queue"][0]
        (_, _, rest), (_, found, cut_off) = after["queue"][:2]
        assert (found, rest + cut_off) == (part, size) and len(after["queue"]) == len(before["queue"]) + 1
        assert after["statistics"]["all_components"] == len(after["queue"])
        other = client.get(f"/api/component/{quote(target['window'])}/{part}")
        assert sum(other["counts"]) == cut_off and min(other["counts"]) > 0  # both frames
        client.act("cut", 400, **target, frame=frame, plane=[0, 0, 1, 1000])
        client.act("cut", 400, **target, frame=frame, plane=[0, 0, 1])
        client.act("cut", 400, **target, frame="none")
        client.label(0, "car")
        client.label(1, "road")
        for _ in range(3):
            assert client.act("undo")["component"][1] in (component, part)
        assert client.get("/api/session")["queue"] == before["queue"]
        client.act("undo", 200)
        client.act("label", 400, **{**target, "component": part}, classes=["car"], frame=frame)
        for _ in range(3):
            client.act("redo")
        assert client.get("/api/session")["queue"] == after["queue"]
        states = known(client)
    with serving(to_label) as client:  # opened again
        assert client.get("/api/session")["queue"] == after["queue"] and known(client) == states
        np.testing.assert_array_equal(client.cloud(frame)[1], whole)
    run_script("label_from_clicks", PRESEG, *to_label.words())
    label = read_weak_label(to_label.weak, frame)
    assert len(np.unique(label.propagated[whole == part])) == 1
    assert set(np.unique(label.propagated[whole == part])).isdisjoint(label.propagated[whole == component])
    assert (label.propagated[whole == component] > 0).all() and (label.propagated[front] > 0).all()


def test_a_class_with_a_commands_key_is_refused(to_label, tmp_path):
    with open(f"{to_label.root}/classes.yaml") as file:
        classes = yaml.safe_load(file)
    classes["classes"][2]["key"] = "x"
    (tmp_path / "classes.yaml").write_text(yaml.safe_dump(classes))
    words = to_label.words(dataset__classes=tmp_path / "classes.yaml")
    assert "'x' is a command of the page" in refusal("annotate", ANNOTATE, *words)
