# Makes a bare GPU machine with PyTorch ready for costep's runs; source it there, in the repository.
# Carried along: .wheels/ (what that machine's Python lacks) and .gl/ (the OpenGL dispatch libraries).
# The other way round, where packages can be fetched:  bash runs/gpu_setup.sh fetch
set -e
if [ "${1:-}" = fetch ]; then
  mkdir -p .wheels .gl
  python3 -m pip download --quiet --no-deps --only-binary=:all: --dest .wheels \
    --python-version 3.12 --implementation cp \
    --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 \
    --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 --platform manylinux1_x86_64 \
    --constraint constraints.txt \
    mujoco mink daqp qpsolvers gymnasium farama-notifications glfw pyopengl
  (cd .gl && apt-get download libegl1 libglvnd0 libopengl0 libgl1 libglx0 libgles2)
  for folder in .wheels .gl; do echo '*' > $folder/.gitignore; done
  du -sh .wheels .gl
  exit 0
fi
for deb in .gl/*.deb; do dpkg -x "$deb" /; done
ldconfig
python3 -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --upgrade \
  --target /tmp/costep-site .wheels/*.whl
export PYTHONPATH="$PWD/src:/tmp/costep-site${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONUNBUFFERED=1 MUJOCO_GL=egl
set +e
