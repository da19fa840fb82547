"""An executor for tests, in this process: what a sweep asks of one, and nothing that makes it slow."""

from scaling.training.train import train


class Here:
    """Trains in this process, and can be told to stop as Ctrl-C would."""

    def __init__(self, corpus, stop_after: int = 10**9) -> None:
        self.corpus, self.left, self.trained = corpus, stop_after, []

    def run(self, tasks, folder, corpus, look):
        for spec in (spec for task in tasks for spec in task.specs):
            if not self.left:
                raise KeyboardInterrupt
            self.left -= 1
            run = train(spec, self.corpus)
            run.write(folder)
            self.trained.append(spec.id)
            look()
