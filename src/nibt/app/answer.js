// Each new answer is brought to life; the words and the box that a link names are chosen in the first one.
const wake = () => {
  const root = element.querySelector(".nibt-view");
  if (root) nibtPage.wake(root, element.querySelector(".nibt-link"));
};
wake();
watch("value", wake);
