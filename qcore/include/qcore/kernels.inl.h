#include "qcore/micro/kernels.inl.h"  // where it was before there were folders
