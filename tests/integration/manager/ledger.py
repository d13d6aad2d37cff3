"""What was asked of a manager, and what may therefore be there when it is asked again.

An answer that says yes leaves one possible state of a guest table; none, or a no, leaves two: the
vault promises that a store which failed may turn out to have happened if the host dies.
"""

import uuid

import frames

A, B = (uuid.UUID(int=n) for n in (0xA << 96, 0xB << 96))
GONE = (frames.Closed, OSError)  # a time-out, too


class Ledger:
    """States are None (not set up) or {uuid: (name, sequence, content)}."""

    def __init__(self, manager, patience=20):
        self.manager = manager
        self.patience = patience
        self.possible = [None]
        self.failures = []

    def _note(self, change, failure):
        after = []
        for state in self.possible:
            changed = change(state)
            if changed is not False and changed not in after:
                after.append(changed)
        if failure:
            self.failures.append(failure)
            after += [state for state in self.possible if state not in after]
        if not after:
            raise AssertionError(f"an answer that cannot be: {self.possible}")
        self.possible = after
        return not failure

    def _do(self, change, ask):
        try:
            return self._note(change, ask())
        except GONE:
            self._note(change, "no answer")
            raise

    def ask(self, body):
        with frames.Peer(self.manager.socket, self.patience) as peer:
            return peer.ask(body)

    def _admin(self, change, kind, *fields):
        return self._do(change, lambda: frames.failure_of(
            self.ask(frames.request(kind, frames.message(*fields)))))

    def set_up(self):
        return self._admin(lambda state: {} if state is None else state, frames.SETUP)

    def create(self, which, name):
        return self._admin(
            lambda state: False if state is None or which in state
            else {**state, which: (name, 0, None)},
            frames.CREATE, (1, name), (2, frames.TPM_2_0), (3, which.bytes))

    def rename(self, which, name):
        return self._admin(
            lambda state: {**state, which: (name, *state[which][1:])} if which in (state or {})
            else False, frames.RENAME, (1, str(which)), (2, name))

    def remove(self, which):
        return self._admin(
            lambda state: {key: value for key, value in state.items() if key != which}
            if which in (state or {}) else False, frames.REMOVE, (1, str(which)))

    def store(self, which, content):
        """As an engine would: what is there, and then what follows it."""
        def ask():
            with frames.Peer(self.manager.socket, self.patience) as holder:
                failure = frames.failure_of(holder.ask(frames.open_instance(which.bytes)))
                if failure:
                    return failure
                engine = holder.attach()
                if isinstance(engine, frames.Failure):
                    return engine
                with engine:
                    engine.socket.settimeout(self.patience)
                    loaded = engine.load()
                    if isinstance(loaded, frames.Failure):
                        return loaded
                    sequence = loaded.sequence
                    done = engine.commit(sequence, (frames.PERMANENT, content))
                    return done if isinstance(done, frames.Failure) else None
        return self._do(lambda state: {**state, which: (state[which][0], state[which][1] + 1,
                                                        content)}
                        if which in (state or {}) else False, ask)

    def status(self):
        """(phase, epoch, the reason's code)."""
        status = frames.fields(self.ask(frames.status()))[5][0]
        found = frames.fields(status)
        freshness = found.get(14, [b""])[0]
        reason = found.get(2, [b""])[0]
        return frames.text(status, 1), frames.number(freshness, 1), frames.text(reason, 1)

    def read(self):
        """The state that is there now; what cannot be read is an AssertionError."""
        phase, _, reason = self.status()
        if phase == "not-set-up":
            return None
        if phase != "open":
            raise AssertionError(f"{phase}: {reason}")
        state = {}
        page = frames.fields(self.ask(frames.request(frames.LIST)))[4][0]
        for one in frames.fields(page).get(1, []):
            which = uuid.UUID(bytes=frames.fields(one)[1][0])
            with frames.Peer(self.manager.socket, self.patience) as holder:
                failure = frames.failure_of(holder.ask(frames.open_instance(which.bytes)))
                if failure:
                    raise AssertionError(failure)
                with holder.attach() as engine:
                    loaded = engine.load()
            state[which] = (frames.text(one, 2), loaded.sequence,
                            loaded.blobs.get(frames.PERMANENT))
            if loaded.sequence != frames.number(one, 7) or set(loaded.blobs) > {frames.PERMANENT}:
                raise AssertionError(f"{loaded} is not what the list says")
        return state
