"""`python -m keras_mtl.tuning --workers 2 search.py`: a chief and workers on one machine."""

from keras_mtl.tuning.launch import main

if __name__ == "__main__":
    main()
