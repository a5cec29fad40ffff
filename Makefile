# Everything lives in .venv, made by .ci/bootstrap; nothing is installed outside it but the test programs of .ci/peers.
BIN := .venv/bin

.PHONY: help demo test bench pictures lint format clean
.DEFAULT_GOAL := help

help:
	@echo "make demo     install, then run the whole loop: PACS, segmentation network, DICOM results, PACS"
	@echo "make test     install, then check the style and the types and run all tests"
	@echo "make bench    print how long everything takes beside what is usual: a quarter of an hour, and 600 MB of peers"
	@echo "make pictures draw the README's pictures of the panel again"
	@echo "make lint     check the style and the types only"
	@echo "make format   put the code into the project's style"
	@echo "make clean    remove .venv and what tools left behind; results of a demo are kept"
	@echo
	@echo "PYTHON=python3.12 make demo   makes .venv with that Python (3.11 to 3.13; otherwise the newest found)"
	@echo "ARGS='--out DIR' make demo    gives the command further arguments; also for test (pytest) and bench"
	@echo
	@echo "On Linux plain pip takes the CUDA build of torch, several GB. Without an NVIDIA GPU, install the CPU build first;"
	@echo "it is kept. For URL put what pytorch.org shows behind --index-url: Get Started, Start Locally, Linux, Pip, CPU."
	@echo "    python3 -m venv .venv"
	@echo "    .venv/bin/pip install torch==$$(sed -n 's/^torch==//p' constraints.txt) --index-url URL"

demo:
	@.ci/bootstrap nodes compressed
	@$(BIN)/aidicombridge demo $(ARGS)

test:
	@.ci/bootstrap nodes compressed test
	@.ci/peers
	@.ci/newest-slicer-core
	@.ci/checks $(ARGS)

lint:
	@.ci/bootstrap nodes compressed test
	@status=0; \
	for check in "ruff check ." "ruff format --check ." "mypy"; do $(BIN)/$$check || status=1; done; exit $$status

format:
	@.ci/bootstrap nodes compressed test
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench:
	@.ci/bootstrap nodes compressed test peers
	@PYTHONPATH=Testing/Python $(BIN)/python -m bench $(ARGS)
	$(if $(ARGS),,@PYTHONPATH=Testing/Python $(BIN)/python -m bench.volume --repeat 1)
	$(if $(ARGS),,@PYTHONPATH=Testing/Python $(BIN)/python -m bench.inference --peers monai nnunet lungmask --repeat 1)
	$(if $(ARGS),,@PYTHONPATH=Testing/Python $(BIN)/python -m bench.segmentation --segments 1 6 --repeat 1)
	$(if $(ARGS),,@PYTHONPATH=Testing/Python $(BIN)/python -m bench.segmentation --segments 60 --repeat 2)
	$(if $(ARGS),,@PYTHONPATH=Testing/Python $(BIN)/python -m bench.transfer --repeat 2)
	$(if $(ARGS),,@PYTHONPATH=Testing/Python $(BIN)/python -m bench.memory)

pictures:
	@.ci/bootstrap nodes compressed test
	@cd Testing/Python && ../../$(BIN)/python -m shell.pictures ../../Resources

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis build AIDicomBridge/*.egg-info
	find AIDicomBridge Testing -name __pycache__ -type d -prune -exec rm -rf {} +
