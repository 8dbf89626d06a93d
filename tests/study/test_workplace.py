import cv2
import torch

from shrinkproof.study.work.workplace import forget_workplace, workplace


def test_libraries_use_as_many_threads_as_the_study_says(run_copy):
    before = torch.get_num_threads(), cv2.getNumThreads()
    try:
        cv2.setNumThreads(2)
        workplace(str(run_copy))
        assert (torch.get_num_threads(), cv2.getNumThreads()) == (1, 1)
    finally:
        forget_workplace()
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])
