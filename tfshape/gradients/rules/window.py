"""The geometry of a convolution: which input positions each tap of the kernel sees."""

import itertools

import tensorflow as tf

_FORMATS = {1: "NWC", 2: "NHWC", 3: "NDHWC"}


class Window:
    """Kernel size, strides, dilation, padding and groups of a convolution layer; tensors are channels-last."""

    def __init__(self, layer):
        self.size, self.strides, self.dilation = (
            tuple(int(n) for n in value) for value in (layer.kernel_size, layer.strides, layer.dilation_rate)
        )
        self.padding = layer.padding
        self.groups = getattr(layer, "groups", 1)
        self._channels_first = layer.data_format == "channels_first"

    @property
    def count(self):
        """Number of taps."""
        count = 1
        for n in self.size:
            count *= n
        return count

    @property
    def channel_axis(self):
        return 1 if self._channels_first else -1

    @property
    def is_depthwise_simple(self):
        """Whether TensorFlow has a single operation for a depthwise convolution with these strides."""
        return len(set(self.strides)) == 1 and (max(self.strides) == 1 or max(self.dilation) == 1)

    def channels_last(self, tensor):
        return tf.transpose(tensor, [0, *range(2, tensor.shape.rank), 1]) if self._channels_first else tensor

    def restore(self, tensor):
        """Channels-last -> the layer's own order."""
        rank = tensor.shape.rank
        return tf.transpose(tensor, [0, rank - 1, *range(1, rank - 1)]) if self._channels_first else tensor

    def pointwise(self):
        """The window of the 1x1 convolution that follows a depthwise one."""
        other = object.__new__(Window)
        other.__dict__.update(self.__dict__, padding="valid", groups=1)
        other.size = other.strides = other.dilation = (1,) * len(self.size)
        return other

    def taps(self, tensor, static, dynamic):
        """For each tap the part of `tensor` [B, *in, C] it sees: [B, *out, C].

        static, dynamic: the shape of a tensor [B, *out, ...], as TensorFlow knows it now and as a tensor.
        """
        tensor, steps = self._pad(tensor, static, dynamic)
        shape, channels = tensor.shape, tensor.shape[-1]
        merge = self.strides[-1] == 1 and isinstance(steps[-1], int) and shape[1:].is_fully_defined()
        if merge:  # the last axis of space and the channels lie side by side: one less axis to cut is faster
            tensor = tf.reshape(tensor, [-1, *shape[1:-2], shape[-2] * channels])
        for offsets in itertools.product(*(range(n) for n in self.size)):
            cut = [slice(None)]
            for offset, n, stride, dilation in zip(offsets, steps, self.strides, self.dilation):
                start = offset * dilation
                cut.append(slice(start, start + stride * (n - 1) + 1, stride))
            if merge:
                last = cut.pop()
                cut.append(slice(last.start * channels, last.stop * channels))
                yield tf.reshape(tensor[tuple(cut)], [-1, *steps, channels])
            else:
                yield tensor[tuple(cut)]

    def _pad(self, tensor, static, dynamic):
        """Zeros as the padding asks: -> (padded tensor, output sizes)."""
        pads, steps = [[0, 0]], []
        for i, (k, s, d) in enumerate(zip(self.size, self.strides, self.dilation)):
            n = tensor.shape[i + 1]
            n = tf.shape(tensor)[i + 1] if n is None else n
            out = dynamic[i + 1] if static[i + 1] is None else static[i + 1]
            steps.append(out)
            total = 0
            if self.padding == "causal":
                pads.append([d * (k - 1), 0])
                continue
            if self.padding == "same":
                total = (out - 1) * s + (k - 1) * d + 1 - n
                total = max(total, 0) if isinstance(total, int) else tf.maximum(total, 0)
            pads.append([total // 2, total - total // 2])
        pads.append([0, 0])
        none = all(isinstance(n, int) and n == 0 for pad in pads for n in pad)
        return (tensor if none else tf.pad(tensor, pads)), steps

    def _causal(self, tensor):
        """-> (tensor, TensorFlow's name of the padding)."""
        if self.padding != "causal":
            return tensor, self.padding.upper()
        pads = [[0, 0], *([d * (k - 1), 0] for k, d in zip(self.size, self.dilation)), [0, 0]]
        return tf.pad(tensor, pads), "VALID"

    def convolve(self, tensor, kernel):
        tensor, padding = self._causal(tensor)
        kernel = tf.cast(kernel, tensor.dtype)
        return tf.nn.convolution(
            tensor, kernel, self.strides, padding, data_format=_FORMATS[len(self.size)], dilations=self.dilation
        )

    def depthwise(self, tensor, kernel):
        tensor, padding = self._causal(tensor)
        one = len(self.size) == 1
        if one:
            tensor, kernel = tensor[:, None], kernel[None]
        strides = [1, *(self.strides * 2 if one else self.strides), 1]
        dilation = [1, *self.dilation] if one else list(self.dilation)
        out = tf.nn.depthwise_conv2d(tensor, kernel, strides, padding, dilations=dilation)
        return tf.squeeze(out, 1) if one else out

    def kernel_gradient(self, tensor, gradient, kernel_shape):
        """The ordinary gradient of a convolution with respect to its kernel, for all examples together."""
        kernel = tf.zeros(kernel_shape, tensor.dtype)  # the map is linear: any kernel will do, and none is multiplied
        with tf.GradientTape() as tape:
            tape.watch(kernel)
            out = self.convolve(tensor, kernel)
        return tape.gradient(out, kernel, output_gradients=gradient)
