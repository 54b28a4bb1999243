"""The dashboard in headless Chromium, on a service and an engine that are real.

`cargo xtask browser` arranges what it needs and runs it: WHARF names the program, CHROMIUM the browser, IMAGE an image with a
shell. With SCREENSHOTS it writes pictures into that folder. Everything is made below a folder of its own, and removed.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

from playwright.sync_api import Error, expect, sync_playwright

WHARF = os.path.abspath(os.environ["WHARF"])
IMAGE = os.environ.get("IMAGE", "wharf-base:local")
HOSTILE = "<img src=x onerror=alert(1)><b>not bold</b>"
# What a workspace writes: a line a second, and one that would like to be more than text.
WRITES = f"echo '{HOSTILE}'; n=0; trap exit TERM; while :; do n=$((n+1)); echo line $n; sleep 1; done"
expect.set_options(timeout=20_000)


class Service:
    """A service with workspaces, on a port and in folders of its own."""

    PREFIX = "wharf-browser-"
    COMMAND = ["sh", "-c", WRITES]

    def __init__(self):
        self.process = None
        self.folder = Path(tempfile.mkdtemp(prefix=self.PREFIX))
        # Never the state of whoever runs this.
        self.env = {**os.environ, "WHARF_STATE_DIR": str(self.folder / "state"), "WHARF_CONFIG": str(self.folder / "wharf.toml")}
        for name in ("WHARF_SERVER", "WHARF_TOKEN"):
            self.env.pop(name, None)
        try:
            self.begin()
        except BaseException:
            self.end()
            raise

    def begin(self):
        for name in ("state", "shop", "blog"):
            (self.folder / name).mkdir()
        cert, key = self.folder / "cert.pem", self.folder / "key.pem"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                        "-keyout", key, "-out", cert, "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
                        "-addext", "basicConstraints=critical,CA:FALSE"], check=True, capture_output=True)
        key.chmod(0o600)
        self.script = self.folder / "team.rhai"
        self.script.write_text('fn pre_create(ctx) { ctx.spec.env.CREW = "dock"; if ctx.spec.labels.get("team") == "ghost" { ctx.deny("no-team", "there is no team ghost"); } }\n')
        names = ["image-selector", "security-baseline", "pre-create.rhai", "post-start.rhai", "cleanup-policy", "cleanup.rhai"]
        carried = "\n".join(f'[[policy]]\nname = "{name}"\nbuiltin = "{name}"' for name in names)
        (self.folder / "wharf.toml").write_text(f"""
[workspace]
image = "{IMAGE}"
command = {json.dumps(self.COMMAND)}
[api]
listen = "127.0.0.1:0"
tls_cert = "{cert}"
tls_key = "{key}"
[metrics]
interval = "1s"
{carried}
[[policy]]
name = "team.rhai"
script = "team.rhai"
""")
        self.log = open(self.folder / "serve.log", "w+")
        self.process = subprocess.Popen([WHARF, "serve"], env=self.env, stdout=subprocess.PIPE, stderr=self.log, text=True)
        ready = self.process.stdout.readline()
        found = re.search(r"https://127\.0\.0\.1:(\d+)", ready)
        assert found, f"the service says: {ready!r}, {(self.folder / 'serve.log').read_text()}"
        self.url = f"https://localhost:{found[1]}"
        self.admin = self.token("admin", "admin")
        self.viewer = self.token("viewer", "viewer")
        self.run("up", str(self.folder / "shop"), "--label", "team=pay", "--memory", "256MiB")
        self.run("up", str(self.folder / "blog"))
        self.ids = {view["name"]: view["id"] for view in json.loads(self.run("--json", "ls"))}

    def run(self, *args, code=0):
        done = subprocess.run([WHARF, *args], env=self.env, cwd=self.folder / "shop", capture_output=True, text=True, timeout=120)
        assert done.returncode == code, f"{args}: {done.returncode}\n{done.stderr}"
        return done.stdout

    def token(self, name, role):
        return re.search(r"wharf_\w+", self.run("token", "create", name, "--role", role))[0]

    def state(self, name):
        return json.loads(self.run("--json", "inspect", name))["state"]

    def end(self):
        if self.process:
            self.process.terminate()
            self.process.wait(30)
        # Whatever a failed test has left, its snapshots and images included.
        kept = subprocess.run([WHARF, "--json", "snapshot", "ls"], env=self.env, capture_output=True, text=True, timeout=60).stdout
        names = [one["name"] for one in json.loads(kept or "[]")]
        for args in [["rm", "--all", "--force"], *(["snapshot", "rm", name] for name in names), ["image", "prune"]]:
            subprocess.run([WHARF, *args], env=self.env, cwd=self.folder, capture_output=True, timeout=120)
        left = subprocess.run([WHARF, "ls", "--quiet"], env=self.env, capture_output=True, text=True, timeout=60).stdout
        shutil.rmtree(self.folder)
        assert not left, f"left: {left}"


class Browser:
    """A page, with what went wrong in it."""

    def __init__(self, browser, service, **options):
        self.service = service
        self.context = browser.new_context(ignore_https_errors=True, locale="en-GB", **{"viewport": {"width": 1280, "height": 860}, **options})
        self.page = self.context.new_page()
        self.wrong, self.elsewhere = [], []
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("console", lambda message: self.wrong.append(message.text) if "Content Security Policy" in message.text else None)
        self.page.on("request", lambda request: self.elsewhere.append(request.url) if not request.url.startswith((service.url, "about:", service.url.replace("https", "wss"))) else None)
        self.page.on("dialog", lambda dialog: dialog.accept())

    def open(self, url):
        """Goes to a page. Chromium gives a load up when a network of the machine changes, as each workspace does."""
        for attempt in range(5):
            try:
                self.page.goto(url)
                # A script that was given up leaves the page empty.
                self.page.locator("main > *").first.wait_for(timeout=5_000)
                return
            except Error as error:
                given_up = "ERR_NETWORK_CHANGED" in str(error) or "Timeout" in str(error)
                if not given_up or attempt == 4:
                    raise
                time.sleep(1)
                self.page.goto("about:blank")

    def log_in(self, token):
        self.open(self.service.url)
        self.page.get_by_label("Token").fill(token)
        self.page.get_by_role("button", name="Log in").click()
        expect(self.page.get_by_role("heading", name="Workspaces")).to_be_visible()
        return self.page

    def go(self, place):
        self.open(f"{self.service.url}/#/{place}")
        return self.page

    def close(self):
        self.context.close()
        assert not self.wrong, self.wrong
        assert not self.elsewhere, f"asked elsewhere: {self.elsewhere}"


def who_has_no_token_sees_a_form_and_a_wrong_one_is_refused(service, open_browser):
    here = open_browser()
    page = here.page
    here.open(service.url)
    page.get_by_label("Token").fill("wharf_0_nonsense")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_contain_text("token")
    here.log_in(service.admin)
    assert page.evaluate("document.cookie") == "", "scripts cannot read the session"
    cookie = next(one for one in here.context.cookies() if "wharf" in one["name"])
    assert cookie["httpOnly"] and cookie["secure"] and cookie["sameSite"] == "Strict", cookie
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_label("Token")).to_be_visible()
    page.reload()
    expect(page.get_by_label("Token")).to_be_visible()


def workspaces_are_live_and_can_be_stopped_and_started(service, open_browser):
    page = open_browser().log_in(service.admin)
    row = page.get_by_role("row", name=re.compile("^shop"))
    expect(row).to_contain_text("running")
    expect(page.locator("#live")).to_have_text("live")
    # A time relative to now does not stay as it was.
    before = row.locator("time").inner_text()
    expect(row.locator("time")).not_to_have_text(before)
    # Another caller stops it, and the page is not reloaded. It is stopped on purpose, which is no failure.
    service.run("stop", "shop", "--timeout", "2s")
    expect(row.get_by_text("stopped", exact=True)).to_be_visible()
    expect(row.locator(".badge.bad")).to_have_count(0)
    row.get_by_role("button", name="Start").click()
    expect(row).to_contain_text("running")
    assert service.state("shop") == "running"
    expect(row).to_contain_text("MiB of 256 MiB", timeout=30_000)
    expect(row.locator("svg.spark path.trace").first).to_have_attribute("d", re.compile("M.*L"), timeout=30_000)
    page.get_by_label("Filter workspaces").fill("team=pay")
    expect(page.get_by_role("row", name=re.compile("^blog"))).to_have_count(0)
    expect(page.get_by_text("1 of 2 workspaces")).to_be_visible()


def a_workspace_shows_its_charts_and_what_it_is(service, open_browser):
    here = open_browser()
    here.log_in(service.admin)
    page = here.go(f"workspace/{service.ids['shop']}")
    memory = page.get_by_role("img", name=re.compile("^Memory: now .*iB, at most"))
    expect(memory).to_be_visible(timeout=30_000)
    # Both axes: the limit at the top, and times below.
    figure = page.locator("figure").filter(has=memory)
    expect(figure.locator(".y-axis span")).to_have_text(["256 MiB", "128 MiB", "0 B"])
    expect(figure.locator(".x-axis text").first).to_have_text(re.compile(r"\d\d:\d\d"))
    expect(page.get_by_text("team=pay")).to_be_visible()
    page.get_by_label("Time shown").select_option("Day")
    expect(memory).to_be_visible()
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("heading", name=re.compile("shop"))).to_contain_text("paused")
    page.get_by_role("button", name="Unpause").click()
    expect(page.get_by_role("heading", name=re.compile("shop"))).to_contain_text("running")


def logs_follow_and_what_a_workspace_writes_is_text(service, open_browser):
    here = open_browser()
    here.log_in(service.admin)
    page = here.go(f"workspace/{service.ids['blog']}/logs")
    log = page.get_by_role("log")
    expect(log).to_contain_text(HOSTILE)
    assert log.locator("img, b").count() == 0
    seen = int(re.findall(r"line (\d+)", log.inner_text())[-1])
    expect(log).to_contain_text(f"line {seen + 3}")
    page.get_by_label("Only lines with this text").fill("not bold")
    expect(log.locator("div:not([hidden])").first).to_contain_text("not bold")
    expect(log.get_by_text("line 1", exact=True)).to_be_hidden()
    page.get_by_label("Timestamps").check()
    expect(log.locator(".time:visible").first).to_contain_text(re.compile(r"\d{4}-\d\d-\d\dT"))


def a_terminal_takes_keys_and_tells_the_exit_code(service, open_browser):
    here = open_browser()
    here.log_in(service.admin)
    page = here.go(f"workspace/{service.ids['shop']}/terminal")
    page.get_by_role("button", name="Open").click()
    expect(page.get_by_role("status").filter(has_text="connected")).to_be_visible()
    output = page.get_by_role("log", name="Terminal output")
    # A shell throws away what is typed before its prompt.
    expect(output).to_contain_text("/workspace #")
    page.keyboard.type("echo 6 times 7 is $((6*7)); stty size")
    page.keyboard.press("Enter")
    expect(output).to_contain_text("6 times 7 is 42")
    page.keyboard.type("exit 3")
    page.keyboard.press("Enter")
    expect(page.get_by_text("exited with 3")).to_be_visible()


def why_names_the_policy_of_each_field(service, open_browser):
    here = open_browser()
    here.log_in(service.admin)
    page = here.go(f"workspace/{service.ids['shop']}/why")
    # Without the defaults at first.
    expect(page.get_by_label("Hide defaults")).to_be_checked()
    expect(page.get_by_role("row", name=re.compile(r"^resources\.memory"))).to_contain_text("256 MiB")
    expect(page.get_by_role("row", name=re.compile(r"^hostname"))).to_have_count(0)
    page.get_by_label("Hide defaults").uncheck()
    expect(page.get_by_role("row", name=re.compile(r"^hostname"))).to_be_visible()
    page.get_by_label("Hide defaults").check()
    crew = page.get_by_role("row", name=re.compile(r"^env\.CREW"))
    expect(crew).to_contain_text("dock")
    expect(crew).to_contain_text("team.rhai:1")
    page.get_by_label("Filter fields").fill("resources.memory")
    memory = page.get_by_role("row", name=re.compile(r"^resources\.memory"))
    expect(memory).to_contain_text("overruled by")
    expect(page.get_by_role("row", name=re.compile(r"^env\.CREW"))).to_have_count(0)


def the_feed_of_decisions_grows_and_each_has_a_page(service, open_browser):
    here = open_browser()
    here.log_in(service.admin)
    page = here.go("decisions")
    first = page.locator("tbody tr").first
    expect(first).to_contain_text("#")
    number = int(re.search(r"#(\d+)", first.inner_text())[1])
    service.run("restart", "blog", "--timeout", "1s")
    expect(page.locator("tbody tr").first).not_to_contain_text(f"#{number}")
    page.get_by_role("link", name="#1", exact=True).click()
    expect(page.get_by_role("heading", name=re.compile("Decision #1"))).to_be_visible()
    expect(page.get_by_text("Steps of the policies")).to_be_visible()
    # A shadow shows what it would have changed.
    page.get_by_text("Full record").click()
    expect(page.locator("pre")).to_contain_text('"number": 1')


def policies_are_reloaded_and_a_bad_one_is_refused_with_its_line(service, open_browser):
    here = open_browser()
    here.log_in(service.admin)
    page = here.go("policies")
    row = page.get_by_role("row", name=re.compile("team.rhai"))
    expect(row).to_contain_text("ok")
    expect(row).to_contain_text(re.compile(r"\d+ µs"))
    good = service.script.read_text()
    try:
        service.script.write_text("fn pre_create(ctx) { let x = ; }")
        page.get_by_role("button", name="Reload").click()
        expect(page.get_by_role("alert")).to_contain_text("team.rhai:1")
    finally:
        service.script.write_text(good)
    page.get_by_role("button", name="Reload").click()
    expect(page.get_by_text("The chain was reloaded")).to_be_visible()


def cleanup_lists_everything_that_is_ours_and_why_it_stays(service, open_browser):
    here = open_browser()
    here.log_in(service.admin)
    page = here.go("cleanup")
    expect(page.get_by_role("row", name=re.compile(service.ids["shop"]))).to_contain_text("keep")
    expect(page.get_by_role("region", name=re.compile("All objects created by Wharf"))).to_be_visible()


def events_come_as_they_happen(service, open_browser):
    here = open_browser()
    here.log_in(service.admin)
    page = here.go("events")
    expect(page.get_by_role("row", name=re.compile("started")).first).to_be_visible()
    paused = page.get_by_role("row", name=re.compile("paused"))
    before = paused.count()
    service.run("pause", "blog")
    service.run("unpause", "blog")
    # Those of other tests are there before.
    expect(paused).to_have_count(before + 2)


def the_page_says_which_role_it_has_and_shows_only_its_buttons(service, open_browser):
    operator = service.token("deploy", "operator")
    for token, name, role, buttons in [(service.viewer, "viewer", "viewer", 0), (operator, "deploy", "operator", 1), (service.admin, "admin", "admin", 1)]:
        here = open_browser()
        page = here.log_in(token)
        expect(page.locator("#me")).to_have_text(f"{role} {name}")
        row = page.get_by_role("row", name=re.compile("^shop"))
        expect(row).to_contain_text("running")
        expect(row.get_by_role("button", name="Stop")).to_have_count(buttons)
        expect(page.get_by_role("link", name="New workspace")).to_have_count(buttons)
        here.go(f"workspace/{service.ids['shop']}")
        expect(page.get_by_role("heading", name=re.compile("shop"))).to_be_visible()
        expect(page.get_by_role("button", name="Remove")).to_have_count(buttons)
        expect(page.get_by_role("link", name="Terminal")).to_have_count(buttons)
        here.go("policies")
        expect(page.get_by_role("row", name=re.compile("team.rhai"))).to_be_visible()
        expect(page.get_by_role("button", name="Reload")).to_have_count(1 if role == "admin" else 0)
        here.go("cleanup")
        expect(page.get_by_role("heading", name="Cleanup")).to_be_visible()
        expect(page.get_by_role("button", name="Sweep now")).to_have_count(1 if role == "admin" else 0)
        here.go("new")
        expect(page.get_by_text("your role cannot create workspaces")).to_have_count(0 if buttons else 1)
    # A hidden button is no permission: the service refuses.
    here = open_browser()
    page = here.log_in(service.viewer)
    status = page.evaluate("id => fetch(`/v1/workspaces/${id}/stop`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{}' }).then((one) => one.status)", service.ids["shop"])
    assert status == 403, status
    assert service.state("shop") == "running"


def a_crash_shows_its_last_lines_and_its_reason(service, open_browser):
    folder = service.folder / "worker"
    folder.mkdir()
    service.run("up", str(folder), "--", "sh", "-c", "echo loading the queue; sleep 2; echo no connection to the queue >&2; exit 3")
    try:
        here = open_browser()
        page = here.log_in(service.admin)
        row = page.get_by_role("row", name=re.compile("^worker"))
        expect(row.locator(".badge.bad")).to_have_text("crashed (3)")
        row.get_by_role("link", name="worker").click()
        expect(page.get_by_text("Its command failed with exit code 3.")).to_be_visible()
        tail = page.get_by_label("Last lines")
        expect(tail).to_contain_text("loading the queue")
        expect(tail.locator(".stderr")).to_contain_text("no connection to the queue")
        # Nothing was measured before it was there, and that is not zero.
        page.get_by_label("Time shown").select_option("Month")
        words = page.evaluate("""async () => {
            const { ending, reason } = await import('/dashboard/views/workspaces.js');
            const view = (exit_code, more = {}) => ({ id: 'a', state: 'exited', exit_code, ...more });
            const ends = (...what) => new Map([['a', what]]);
            return [ending(view(137, { oom_killed: true })), ending(view(143), ends('signalled', 'exited', 'stopped')), ending(view(137), ends('signalled', 'exited')), ending(view(139), ends('exited')),
                ending(view(0), ends('exited')), ending(view(143)), ending(view(1, { stopped: 'idle' })), ending({ state: 'running' }) ?? 'none', reason(view(139), ends('exited')), reason(view(127))];
        }""")
        assert words[:8] == ["memory", "stopped", "killed", "crashed", "finished", "stopped", "stopped", "none"], words
        assert "SIGSEGV" in words[8] and "not found" in words[9], words
    finally:
        service.run("rm", "worker", "--force")


def a_chart_without_readings_says_so_and_has_gaps_where_nothing_was_measured(service, open_browser):
    here = open_browser()
    page = here.log_in(service.admin)
    found = page.evaluate("""async () => {
        const { chart } = await import('/dashboard/chart.js');
        const frame = { from: 0, to: 600e3, show: (value) => `${value}`, apart: 15e3 };
        const line = (points) => chart('x', points, frame).querySelector('path.trace')?.getAttribute('d') ?? 'none';
        return [line([]), line([[0, null], [1e3, undefined]]), line([[0, 1], [10e3, 2], [300e3, 3], [310e3, 4]]), chart('x', [], frame).textContent];
    }""")
    assert found[0] == "none" and found[1] == "none", found
    assert found[2].count("M") == 2, found
    assert "no data" in found[3] and "0" not in found[3], found


def requests_are_grouped_and_denials_stand_out(service, open_browser):
    here = open_browser()
    here.log_in(service.admin)
    service.run("exec", "shop", "--", "true")
    good = service.script.read_text()
    try:
        service.script.write_text(good + 'fn pre_exec(ctx) { if ctx.exec.command[0] == "reboot" { ctx.deny("no-reboot", "workspaces are not rebooted"); } }\n')
        service.run("exec", "shop", "--", "reboot", code=125)
    finally:
        service.script.write_text(good)
    page = here.go("decisions")
    denied = page.locator("tbody tr.denied").first
    expect(denied).to_contain_text("reboot")
    expect(denied).to_contain_text("workspaces are not rebooted")
    expect(denied.locator(".badge.bad")).to_have_text("denied")
    # One row for one `up`, with its hooks inside.
    up = page.locator("tbody tr").filter(has=page.locator("strong", has_text=re.compile("^up$"))).filter(has_text=service.ids["blog"])
    expect(up).to_have_count(1)
    for hook in ("select-image", "security-profile", "pre-create", "post-start"):
        expect(up).to_contain_text(hook)
    expect(up).to_contain_text("user ")
    grouped = page.evaluate("""async () => {
        const { grouped } = await import('/dashboard/views/decisions.js');
        let number = 0;
        const record = (hook, workspace, more = {}) => ({ number: (number += 1), id: `r${number}`, hook, workspace, time: new Date(1e12 + number * 1000).toISOString(), outcome: { allowed: {} }, steps: [], input: { facts: { caller: { name: 'ada' } } }, ...more });
        const stop = (verb) => ({ input: { facts: { caller: { name: 'ada' } }, subject: { stop: { verb } } } });
        const names = (list) => grouped(list.reverse()).map((group) => group.records.map((one) => `${one.workspace}:${one.hook}`).join(' '));
        return [
            names([record('select-image', 'a'), record('select-image', 'b'), record('security-profile', 'a'), record('pre-create', 'a'), record('security-profile', 'b'), record('post-start', 'a')]),
            names([record('select-image', 'a', { outcome: { denied: { policy: 'p', reason: 'r' } } }), record('select-image', 'a')]),
            names([record('pre-stop', 'a', stop('restart')), record('post-start', 'a'), record('pre-stop', 'a', stop('stop')), record('post-start', 'a')]),
        ];
    }""")
    assert grouped[0] == ["a:select-image a:security-profile a:pre-create a:post-start", "b:select-image b:security-profile"], grouped
    assert len(grouped[1]) == 2 and len(grouped[2]) == 3, grouped


def a_workspace_is_created_with_its_plan_beside_the_form(service, open_browser):
    folder = service.folder / "night"
    folder.mkdir(exist_ok=True)
    here = open_browser()
    page = here.log_in(service.admin)
    page.get_by_role("link", name="New workspace").click()
    create = page.get_by_role("button", name="Create")
    expect(create).to_be_disabled()
    page.get_by_label("Project folder").fill(str(folder))
    expect(page.get_by_text("Allowed")).to_be_visible()
    expect(page.get_by_role("row", name=re.compile(r"^env\.CREW"))).to_contain_text("dock")
    # The plan follows what is written.
    page.get_by_label("Labels").fill("team=ghost")
    expect(page.get_by_role("alert")).to_contain_text("there is no team ghost")
    expect(page.get_by_role("alert")).to_contain_text("team.rhai:1")
    expect(create).to_be_disabled()
    page.get_by_label("Labels").fill("")
    page.get_by_label("Memory").fill("128MiB")
    expect(page.get_by_role("row", name=re.compile(r"^resources\.memory"))).to_contain_text("128 MiB")
    page.get_by_label("Memory").fill("lots")
    expect(page.get_by_role("alert")).to_contain_text("memory")
    page.get_by_label("Memory").fill("128MiB")
    page.get_by_label("Labels").fill("team=night")
    expect(create).to_be_enabled()
    create.click()
    try:
        expect(page.get_by_role("heading", name=re.compile("^night"))).to_contain_text("running", timeout=60_000)
        expect(page.get_by_text("team=night")).to_be_visible()
    finally:
        service.run("rm", "night", "--force")


def images_and_snapshots_are_listed_with_their_users_and_removed(service, open_browser):
    service.run("snapshot", "create", "blog", "--name", "before")
    here = open_browser()
    here.log_in(service.admin)
    page = here.go("images")
    image = page.get_by_role("row", name=re.compile(service.ids["blog"]))
    expect(image).to_contain_text(re.compile(r"[KM]iB"))
    expect(image).to_contain_text("snapshot")
    page = here.go("snapshots")
    row = page.get_by_role("row", name=re.compile("before"))
    expect(row).to_contain_text(re.compile(r"[KM]iB"))
    row.get_by_role("button", name="Remove").click()
    expect(row).to_have_count(0)
    assert "before" not in service.run("snapshot", "ls")
    viewer = open_browser()
    viewer.log_in(service.viewer)
    page = viewer.go("images")
    expect(page.get_by_role("heading", name="Images")).to_be_visible()
    expect(page.get_by_role("button", name="Remove unused")).to_have_count(0)


def everything_is_reached_by_the_keyboard_and_has_a_name(service, open_browser):
    here = open_browser()
    page = here.log_in(service.admin)
    here.open(service.url)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    for _ in range(3):
        page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Decisions")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Decisions", exact=True)).to_be_visible()
    expect(page.locator("main")).to_be_focused()
    places = ["", "new", "decisions", "policies", "images", "snapshots", "cleanup", "events", f"workspace/{service.ids['shop']}",
              *(f"workspace/{service.ids['shop']}/{tab}" for tab in ("logs", "terminal", "events", "why"))]
    for place in places:
        here.go(place)
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        nameless = page.evaluate("""() => [...document.querySelectorAll('button, a, input, select, textarea, img')].filter((one) => {
            const labels = one.labels ? [...one.labels].map((label) => label.textContent).join('') : '';
            const name = one.getAttribute('aria-label') ?? one.getAttribute('alt') ?? (one.textContent || labels);
            return one.tagName === 'IMG' ? name === null : !name.trim();
        }).map((one) => one.outerHTML)""")
        assert not nameless, f"{place}: {nameless}"
        assert page.locator("main").count() == 1 and page.locator("h1").count() == 1, place


# What sticks out: an element whose content is wider than itself, or that ends outside the window. A list of links and a log scroll
# sideways on purpose.
STICKS_OUT = """() => {
    const scrolls = (one) => one.closest('.tabs, header nav, .log, .terminal, pre') !== null;
    const name = (one) => `${one.tagName.toLowerCase()}.${[...one.classList].join('.')} '${one.textContent.trim().slice(0, 40)}'`;
    return [...document.querySelectorAll('body *')].filter((one) => one.getClientRects().length && !scrolls(one) && !one.closest('svg, .skip, thead, datalist')).flatMap((one) => {
        const box = one.getBoundingClientRect();
        const style = getComputedStyle(one);
        const wide = one.scrollWidth - one.clientWidth;
        const found = [];
        if (box.right > window.innerWidth + 1 || box.left < -1) found.push(`${name(one)} ends at ${Math.round(box.right)} of ${window.innerWidth}`);
        if (style.display !== 'inline' && one.clientWidth && wide > 1 && !one.matches('input, select, textarea, .me')) found.push(`${name(one)} has ${wide} px too much`);
        return found;
    });
}"""


def nothing_sticks_out_at_any_width(service, open_browser):
    shop = service.ids["shop"]
    places = ["", "new", "decisions", "decisions/1", "policies", "images", "snapshots", "cleanup", "events", *(f"workspace/{shop}{tab}" for tab in ("", "/logs", "/terminal", "/events", "/why"))]
    wrong = []
    for width in (390, 768, 1280):
        here = open_browser(viewport={"width": width, "height": 800}, **({"has_touch": True, "is_mobile": True} if width == 390 else {}))
        page = here.log_in(service.admin)
        for place in places:
            here.go(place)
            expect(page.get_by_role("heading", level=1)).to_be_visible()
            if place == "new":
                page.get_by_label("Project folder").fill(str(service.folder / "shop"))
                expect(page.get_by_text("Steps of the policies").first).to_be_visible()
            if place.endswith("/why"):
                page.get_by_label("Hide defaults").uncheck()
            page.wait_for_timeout(400)
            wrong += [f"{width} px, {place or 'workspaces'}: {one}" for one in page.evaluate(STICKS_OUT)[:4]]
            assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0, f"{width} px, {place}"
    assert not wrong, "\n".join(wrong)


def it_is_dark_where_the_system_is(service, open_browser):
    here = open_browser(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True, color_scheme="dark")
    page = here.log_in(service.admin)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert all(int(part) < 64 for part in re.findall(r"\d+", ground)[:3]), ground
    page.get_by_role("button", name=re.compile("Colours")).click()
    page.get_by_role("button", name=re.compile("Colours")).click()
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert all(int(part) > 192 for part in re.findall(r"\d+", light)[:3]), light


def texts_have_enough_contrast_in_both_schemes(service, open_browser):
    for scheme in ("light", "dark"):
        here = open_browser(color_scheme=scheme)
        page = here.log_in(service.admin)
        for place in ["", "policies", f"workspace/{service.ids['shop']}/why"]:
            here.go(place)
            expect(page.locator("table").first).to_be_visible()
            faint = page.evaluate("""() => {
                const light = (text) => {
                    const [r, g, b] = text.match(/[\\d.]+/g).map(Number).map((v) => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
                    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
                };
                const ground = (one) => { for (; one; one = one.parentElement) { const color = getComputedStyle(one).backgroundColor; if (!/rgba\\(0, 0, 0, 0\\)|transparent/.test(color)) return color; } return 'rgb(255,255,255)'; };
                return [...document.querySelectorAll('main *, header *')].filter((one) => [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim()) && one.offsetParent).flatMap((one) => {
                    const [a, b] = [light(getComputedStyle(one).color), light(ground(one))].sort((x, y) => y - x);
                    const ratio = (a + 0.05) / (b + 0.05);
                    return ratio < 4.5 ? [`${one.tagName} ${one.className} '${one.textContent.slice(0, 30)}' ${ratio.toFixed(2)}`] : [];
                });
            }""")
            assert not faint, f"{scheme}, {place or 'workspaces'}: {faint[:5]}"


def the_terminal_understands_what_programs_send(service, open_browser):
    here = open_browser()
    page = here.log_in(service.admin)
    wrong = page.evaluate(r"""async () => {
        const { Screen, typed } = await import('/dashboard/terminal.js');
        const bytes = (text) => new TextEncoder().encode(text);
        const show = (text, rows = 4, columns = 10) => { const screen = new Screen(rows, columns); screen.write(bytes(text)); return screen; };
        const cases = [
            ['lines', show('a\r\nb').text(), 'a\nb'], ['wrap', show('0123456789ab').text(), '0123456789\nab'],
            ['scroll', show('1\r\n2\r\n3\r\n4\r\n5').text(), '2\n3\n4\n5'], ['erase', show('abc\x1b[2D\x1b[K').text(), 'a'],
            ['home', show('abc\x1b[HX').text(), 'Xbc'], ['other screen', show('sh\x1b[?1049hfull\x1b[?1049l$').text(), 'sh$'],
            ['title', show('\x1b]0;title\x07x').title, 'title'], ['region', show('1\r\n2\r\n3\r\n4\x1b[2;3r\x1b[3;1H\n').text(), '1\n3\n\n4'],
            ['insert', show('abc\x1b[1;2H\x1b[@X').text(), 'aXbc'], ['unknown', show('\x1b[>4;1mx\x1b(B\x1b[?2026hy').text(), 'xy'],
            ['red', show('\x1b[31mx').lines[0][0].style.fg, '#e06c66'], ['256', show('\x1b[38;5;196mx').lines[0][0].style.fg, 'rgb(255,0,0)'],
            ['up', typed({ key: 'ArrowUp' }), '\x1b[A'], ['up, application', typed({ key: 'ArrowUp' }, true), '\x1bOA'],
            ['ctrl c', typed({ key: 'c', ctrlKey: true }), '\x03'], ['letter', typed({ key: 'a' }), null],
        ];
        const single = new Screen(2, 10);
        for (const byte of bytes('\u00e9\u4e16\x1b[31mz\x1b[0m')) single.write(new Uint8Array([byte]));
        cases.push(['byte by byte', single.text(), '\u00e9\u4e16z']);
        let said = '';
        new Screen(4, 10, (text) => { said += text; }).write(bytes('ab\x1b[6n'));
        cases.push(['report', said, '\x1b[1;3R']);
        const small = show('1\r\n2\r\n3\r\n4');
        small.resize(2, 5);
        cases.push(['resize', small.text(), '3\n4']);
        // Whatever comes, the screen keeps its size.
        let seed = 7;
        const random = () => { seed = (seed * 1103515245 + 12345) % 2147483648; return seed / 2147483648; };
        for (let time = 0; time < 500; time += 1) {
            const screen = new Screen(5, 7);
            const noise = Uint8Array.from({ length: 400 }, () => (random() < 0.3 ? 0x1b : random() < 0.5 ? 0x5b : Math.floor(random() * 256)));
            screen.write(noise);
            screen.resize(3 + (time % 5), 3 + (time % 9));
            screen.write(noise);
            if (screen.lines.length !== screen.rows || screen.lines.some((line) => line.length !== screen.columns)) cases.push(['noise', time, 'a screen of its size']);
        }
        return cases.filter(([, got, wanted]) => got !== wanted);
    }""")
    assert not wrong, wrong


TESTS = [
    who_has_no_token_sees_a_form_and_a_wrong_one_is_refused,
    workspaces_are_live_and_can_be_stopped_and_started,
    a_workspace_shows_its_charts_and_what_it_is,
    logs_follow_and_what_a_workspace_writes_is_text,
    a_terminal_takes_keys_and_tells_the_exit_code,
    why_names_the_policy_of_each_field,
    the_feed_of_decisions_grows_and_each_has_a_page,
    policies_are_reloaded_and_a_bad_one_is_refused_with_its_line,
    cleanup_lists_everything_that_is_ours_and_why_it_stays,
    events_come_as_they_happen,
    the_page_says_which_role_it_has_and_shows_only_its_buttons,
    a_crash_shows_its_last_lines_and_its_reason,
    a_chart_without_readings_says_so_and_has_gaps_where_nothing_was_measured,
    requests_are_grouped_and_denials_stand_out,
    a_workspace_is_created_with_its_plan_beside_the_form,
    images_and_snapshots_are_listed_with_their_users_and_removed,
    everything_is_reached_by_the_keyboard_and_has_a_name,
    nothing_sticks_out_at_any_width,
    it_is_dark_where_the_system_is,
    texts_have_enough_contrast_in_both_schemes,
    the_terminal_understands_what_programs_send,
]


class Team(Service):
    """A service with the workspaces of a team, for the pictures of the documentation."""

    PREFIX = "acme-"
    COMMAND = ["sleep", "infinity"]

    # Name, image, label, and the script that runs in it.
    WORKSPACES = [
        ("checkout", "acme/node-dev:22", "team=payments", "i=0; trap exit TERM; while :; do i=$((i+1)); echo \"POST /orders 201 $((i%40+12))ms\"; j=0; while [ $j -lt 2000 ]; do j=$((j+1)); done; sleep 1; done"),
        ("storefront", "acme/node-dev:22", "team=web", "trap exit TERM; while :; do echo 'vite: page reload src/App.tsx'; sleep 2; done"),
        ("search-index", "acme/python-dev:3.13", "team=search", "echo 'loading 48,120 documents'; sleep 2; echo 'ConnectionError: search-db:9200 refused the connection' >&2; exit 1"),
        ("billing-api", "acme/go-dev:1.24", "team=payments", "trap exit TERM; while :; do echo 'GET /invoices 200'; sleep 2; done"),
        ("docs-site", "acme/node-dev:22", "team=web", "trap exit TERM; while :; do sleep 1; done"),
    ]

    def begin(self):
        super().begin()
        self.run("rm", "shop", "blog", "--force")
        self.script.write_text("""const TEAMS = #{
    payments: #{ memory: gib(2), proxy: "http://proxy.acme.example:3128" },
    web: #{ memory: gib(1), proxy: () },
    search: #{ memory: gib(4), proxy: () },
};

fn pre_create(ctx) {
    let team = ctx.spec.labels.get("team") ?? "";
    if !(team in global::TEAMS) {
        ctx.deny("team-unknown", "set the label team to one of payments, web, search");
    }
    let rules = global::TEAMS[team];
    if ctx.spec.resources.memory > rules.memory {
        ctx.spec.resources.memory = rules.memory;
    }
    if rules.proxy != () {
        ctx.spec.env.HTTPS_PROXY = rules.proxy;
    }
}

fn pre_exec(ctx) {
    if ctx.exec.command[0] == "curl" {
        ctx.deny("no-curl", "downloads go through the proxy: use acme-fetch");
    }
}
""")
        self.run("policy", "reload")
        build = self.folder / "build"
        build.mkdir()
        for image in sorted({image for _, image, _, _ in self.WORKSPACES}):
            (build / "Dockerfile").write_text(f"FROM {IMAGE}\nLABEL acme.image={image}\n")
            self.run("image", "build", str(build), "--tag", image)
        for name, image, label, command in self.WORKSPACES:
            (self.folder / name).mkdir()
            (self.folder / name / "server.sh").write_text(f"{command}\n")
            self.run("up", str(self.folder / name), "--image", image, "--label", label, "--memory", "2GiB", "--", "sh", "server.sh")
        self.run("up", str(self.folder / "shop"), "--label", "team=design", code=4)
        self.run("exec", "checkout", "--", "true")
        self.run("exec", "checkout", "--", "curl", "https://example.com", code=125)
        self.run("stop", "docs-site", "--timeout", "2s")
        self.run("snapshot", "create", "billing-api", "--name", "before-migration")
        self.ids = {view["name"]: view["id"] for view in json.loads(self.run("--json", "ls"))}


def screenshots(service, open_browser, folder):
    """Pictures for the documentation."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    here = open_browser(viewport={"width": 1180, "height": 760})
    page = here.log_in(service.admin)
    # The charts need readings.
    time.sleep(45)
    page.screenshot(path=folder / "workspaces.png")
    checkout = service.ids["checkout"]
    for name, place, wait in [("workspace", f"workspace/{checkout}", 4), ("why", f"workspace/{checkout}/why", 1), ("ended", f"workspace/{service.ids['search-index']}", 2),
                              ("decisions", "decisions", 1), ("policies", "policies", 1)]:
        here.go(place)
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        time.sleep(wait)
        page.screenshot(path=folder / f"{name}.png")
    here.go("new")
    page.get_by_label("Project folder").fill(str(service.folder / "shop"))
    page.get_by_label("Labels").fill("team=payments")
    page.get_by_label("Memory").fill("6GiB")
    expect(page.get_by_role("row", name=re.compile(r"^env\.HTTPS_PROXY"))).to_be_visible()
    page.screenshot(path=folder / "new.png")
    dark = open_browser(viewport={"width": 390, "height": 760}, has_touch=True, is_mobile=True, color_scheme="dark")
    dark.log_in(service.admin)
    time.sleep(6)
    dark.page.screenshot(path=folder / "phone.png")


def main():
    wanted = sys.argv[1:]
    service, failed, ran = Service(), 0, 0
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=os.environ.get("CHROMIUM"), args=["--no-sandbox"])
            def attempt(name, act):
                opened = []
                def open_browser(**options):
                    opened.append(Browser(browser, service, **options))
                    return opened[-1]
                begun = time.monotonic()
                try:
                    act(open_browser)
                    for one in opened:
                        one.close()
                    print(f"ok      {name.replace('_', ' ')} ({time.monotonic() - begun:.1f} s)", flush=True)
                    return True
                except Exception:
                    print(f"failed  {name.replace('_', ' ')}", flush=True)
                    traceback.print_exc()
                    for one in opened:
                        one.context.close()
                    return False
            for test in TESTS:
                if wanted and not any(word in test.__name__ for word in wanted):
                    continue
                ran += 1
                failed += not attempt(test.__name__, lambda open_browser, test=test: test(service, open_browser))
            if os.environ.get("SCREENSHOTS"):
                team, tested = Team(), service
                try:
                    # A browser belongs to a service.
                    service = team
                    failed += not attempt("screenshots", lambda open_browser: screenshots(team, open_browser, os.environ["SCREENSHOTS"]))
                finally:
                    service = tested
                    team.end()
            browser.close()
        if failed:
            print((service.folder / "serve.log").read_text()[-4000:], file=sys.stderr)
    finally:
        service.end()
    print(f"{ran} browser tests: {ran - failed} passed, {failed} failed")
    return 1 if failed or not ran else 0


if __name__ == "__main__":
    # Whoever ends this at its time limit wants its service and workspaces gone, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
