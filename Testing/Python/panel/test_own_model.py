"""A model of one's own by clicks: added by its file, run only when trusted."""

import re

import torch
from shell.steps import SLOW_S, find_and_load, runner_of
from toy_card import CARD


def add_model(shell, path) -> str:
    import qt

    shell.click(shell.ui.addModelButton)
    dialog = shell.widget.panel.segment.file_dialog
    shell.type(dialog.findChild(qt.QLineEdit, "fileNameEdit"), str(path), enter=True)
    shell.wait_until(lambda: not runner_of(shell).busy, SLOW_S)
    return shell.ui.segmentStatusLabel.text


def test_an_own_program_is_added_and_runs_once_it_is_trusted(shell, archive, tmp_path):
    program = torch.nn.Sequential(torch.nn.Conv3d(1, 2, 1)).eval()
    torch.jit.trace(program, torch.zeros(1, 1, 16, 16, 16)).save(tmp_path / "toy.pt")
    card = re.sub(r"(?s)(\[network\]\nclasses = 2\n).*?\n\n", r"\1\n", CARD)
    card = card.replace('file = "toy.safetensors"', 'file = "toy.pt"\nformat = "torchscript"')
    (tmp_path / "bad.toml").write_text(card.replace('licence = "CC0-1.0"', "licence = 0"))
    (tmp_path / "toy.toml").write_text(card)
    chosen = shell.ui.modelComboBox.currentText

    assert "'licence'" in add_model(shell, tmp_path / "bad.toml")
    assert shell.ui.modelComboBox.currentText == chosen

    assert "toy is one of your models now" in add_model(shell, tmp_path / "toy.toml")
    assert shell.ui.modelComboBox.currentText == "toy"
    assert "A toy, 1.0" in shell.ui.cardLabel.text
    assert not shell.ui.trustModelButton.isVisible()

    find_and_load(shell, archive)
    shell.choose(shell.ui.modelComboBox, "toy")
    shell.click(shell.ui.segmentButton)
    shell.wait_until(lambda: not runner_of(shell).busy, SLOW_S)
    said = shell.ui.segmentStatusLabel.text
    assert "nobody has agreed to run it" in said
    assert said.endswith("press 'Trust this model' in stage 3.")
    assert "read, change and send whatever you can" in shell.ui.trustModelButton.toolTip

    right = (tmp_path / "toy.pt").read_bytes()
    torch.jit.trace(program, torch.zeros(1, 1, 8, 8, 8)).save(tmp_path / "toy.pt")  # another one than was refused
    shell.click(shell.ui.trustModelButton)
    shell.wait_until(lambda: not runner_of(shell).busy, SLOW_S)
    assert "is not the one that was refused" in shell.ui.segmentStatusLabel.text
    (tmp_path / "toy.pt").write_bytes(right)
    shell.click(shell.ui.trustModelButton)
    shell.wait_until(lambda: not runner_of(shell).busy, SLOW_S)
    assert not shell.ui.trustModelButton.isVisible()
    shell.click(shell.ui.segmentButton)
    shell.wait_until(lambda: not runner_of(shell).busy, SLOW_S)
    assert shell.ui.segmentStatusLabel.text.startswith("Done")
