# make quickstart   install, then run the main job on a small network
# make test         install, then run all tests
# make test-slow    statistics that take minutes: the error model against 200 random settings, and tails
# make check        what everyone runs before a commit: ruff, mypy, tests
# make check-native the native kernels under the address and undefined-behaviour sanitizers
# make check-arm    the native kernels compiled for 64-bit Arm, and run there by emulation if it is installed
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed

.PHONY: quickstart install test test-slow check check-native check-arm clean

quickstart: $(STAMP)
	$(BIN)/autoprivacy tune digits-cnn --out runs/quickstart --fresh

install: $(STAMP)

$(STAMP): pyproject.toml CMakeLists.txt $(wildcard protocol/native/* protocol/native/*/*)
	@tools/check-toolchain $(PYTHON)
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

test: $(STAMP)
	$(BIN)/pytest

test-slow: $(STAMP)
	$(BIN)/pytest -m slow

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest

# The flags of each path as in CMakeLists.txt.
NATIVE := $(patsubst protocol/native/%.cpp,%,$(wildcard protocol/native/path_*.cpp)) kernels compile ot_extension
NATIVE_FLAGS := -std=c++20 -O1 -g -Wall -Wextra -Werror -fno-omit-frame-pointer -fno-sanitize-recover=all
FLAGS_path_aesni := -maes -msse4.1
FLAGS_path_vaes256 := -maes -mvaes -mavx2
FLAGS_path_vaes512 := -maes -mvaes -mavx512f -mavx512bw -mavx512vl -Wno-uninitialized -Wno-maybe-uninitialized

build/sanitized/%.o: protocol/native/%.cpp $(wildcard protocol/native/*.h)
	@mkdir -p $(@D)
	$(CXX) $(NATIVE_FLAGS) -fsanitize=address,undefined $(FLAGS_$*) -c $< -o $@

check-native: $(NATIVE:%=build/sanitized/%.o)
	$(CXX) $(NATIVE_FLAGS) -fsanitize=address,undefined -Iprotocol/native tests/native/kernels_test.cpp $^ -o build/sanitized/kernels_test
	build/sanitized/kernels_test

ARM ?= aarch64-linux-gnu
check-arm:
	@mkdir -p build/arm
	$(ARM)-g++ -std=c++20 -O2 -Wall -Wextra -Werror -static -Iprotocol/native tests/native/kernels_test.cpp \
	  $(addprefix protocol/native/,path_portable.cpp kernels.cpp compile.cpp ot_extension.cpp) -o build/arm/kernels_test
	if command -v qemu-aarch64 > /dev/null; then qemu-aarch64 build/arm/kernels_test; fi

clean:
	rm -rf .venv build
